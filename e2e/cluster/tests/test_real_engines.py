"""The router in front of real vLLM engines, prefill and decode on two nodes: the same tokens as from one engine alone."""

import json
import sys

import pytest

from e2e.cluster import images, serving
from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.namespace import Namespace
from e2e.cluster.serving import Engine, MountedVllm
from realengine import environment
from realengine.engine import SITE

pytestmark = [pytest.mark.local_cluster, pytest.mark.long, pytest.mark.timeout(1200)]

READY_SECONDS = 600  # 25 s on an idle machine

# Runs in the client pod: the texts that each URL gives for the same prompt.
COMPARE = """
import json, sys, urllib.error, urllib.request
prompt = "The harbour lies behind the station, and the station lies behind the river. " * 24
request = {"model": "tiny", "prompt": prompt, "max_tokens": 32, "temperature": 0, "ignore_eos": True}
texts = []
for url in sys.argv[1:]:
    body, headers = json.dumps(request).encode(), {"content-type": "application/json"}
    order = urllib.request.Request(url + "/v1/completions", body, headers)
    try:
        texts.append(json.load(urllib.request.urlopen(order, timeout=200))["choices"][0]["text"])
    except urllib.error.HTTPError as refused:
        texts.append(refused.read().decode())
print(json.dumps(texts))
"""


# Runs in the client pod: the status of a short answer through the router.
PROBE = """
import json, urllib.error, urllib.request
body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 1}).encode()
order = urllib.request.Request("http://router/v1/completions", body, {"content-type": "application/json"})
try:
    print(urllib.request.urlopen(order, timeout=100).status)
except urllib.error.HTTPError as refused:
    print(refused.status)
"""


@pytest.fixture(scope="session")
def vllm() -> MountedVllm:
    """The environment that `e2e/vllm` keeps, where it is there already."""
    installed = environment.environment()
    if not installed.complete:
        pytest.skip("vLLM is not installed; the tests of e2e/vllm install it")
    installed.engine_cache.mkdir(exist_ok=True)
    return MountedVllm(
        python=str(installed.python),
        model=str(installed.model),
        cache=str(installed.engine_cache),
        read_only=(str(installed.folder / "venv"), str(installed.model), sys.base_prefix, str(SITE)),
        python_path=str(SITE),
    )


def test_prefill_and_decode_on_two_nodes_give_the_tokens_of_one(
    namespace: Namespace, vllm: MountedVllm
) -> None:
    cluster = namespace.cluster
    assert isinstance(cluster, LocalCluster)
    host = images.engine_host()
    cluster.import_image(host)
    nodes = cluster.nodes()
    engines = [Engine("prefill", "prefill", nodes[0]), Engine("decode", "decode", nodes[1])]
    for described in engines:
        namespace.apply(*serving.real_engine(host.reference, described, vllm))
    namespace.apply(*serving.router(cluster.image, engines), serving.client(cluster.image))
    for name in ("prefill", "decode"):
        namespace.wait_for_rollout(name, READY_SECONDS)
    for name in ("router", "client"):
        namespace.wait_for_rollout(name)
    # The router asks engines that were not there at first at growing intervals.
    eventually(lambda: in_client(namespace, PROBE) == "200\n", "the router finds no engine")
    # The other one computes the whole answer itself; the prompt is long enough that the router takes it apart.
    urls = ["http://router", f"http://prefill:{serving.ENGINE_PORT}"]
    through_both, by_one = json.loads(in_client(namespace, COMPARE, *urls))
    assert through_both == by_one
    assert transferred(namespace) > 0


def in_client(namespace: Namespace, program: str, *arguments: str) -> str:
    """What a Python program prints in the client pod."""
    argv = ("python", "-c", program, *arguments)
    return namespace.kubectl("exec", "deployment/client", "--", *argv, timeout=400)


def transferred(namespace: Namespace) -> float:
    """Prompt tokens that the decode engine had from elsewhere."""
    address = f"http://decode:{serving.ENGINE_PORT}/metrics"
    lines = [
        line
        for line in in_client(namespace, serving.FETCH, address).splitlines()
        if line.startswith("vllm:external_prefix_cache_hits_total")
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
