"""Real vLLM engines in pods on two nodes: behind the router, apart, handed over while they stream, and when things fail."""

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import images, serving, vllm
from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.namespace import Namespace
from e2e.cluster.serving import ENGINE_PORT, Engine
from e2e.cluster.vllm import MountedVllm
from realengine import environment
from realengine.engine import SITE

pytestmark = [pytest.mark.local_cluster, pytest.mark.long, pytest.mark.timeout(1800)]

READY_SECONDS = 900  # 25 s on an idle machine
PULLED, COMPUTED = (
    "external_kv_transfer",
    "local_compute",
)  # where tokens of a prompt came from, as vLLM calls it

NOBODY_LISTENS = 0

# Runs in the client pod: status and tokens (or what was said instead) of one answer that is not streamed. The status is 0
# where no connection could be made.
COMPLETE = """
import json, sys, urllib.error, urllib.request
url, request = json.loads(sys.argv[1])
body = json.dumps({"model": "tiny", "temperature": 0, "ignore_eos": True, "return_token_ids": True, **request})
order = urllib.request.Request(url + "/v1/completions", body.encode(), {"content-type": "application/json"})
try:
    with urllib.request.urlopen(order, timeout=200) as answer:
        print(json.dumps([200, json.load(answer)["choices"][0]["token_ids"]]))
except urllib.error.HTTPError as refused:
    print(json.dumps([refused.status, refused.read().decode()]))
except urllib.error.URLError as unreachable:
    print(json.dumps([0, str(unreachable.reason)]))
"""

# Runs in the client pod: a stream of `source` goes on at `target` after `after` tokens. Its tokens, how many of them came from
# either, and how many tokens of the prompt the target pulled and computed.
HAND_OVER = """
import http.client, json, sys
source, target, prompt, after, total = json.loads(sys.argv[1])
LEND = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None,
        "remote_host": None, "remote_port": None}

def post(host, **request):
    body = {"model": "tiny", "temperature": 0, "ignore_eos": True, "return_token_ids": True, **request}
    connection = http.client.HTTPConnection(host, timeout=200)
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return connection, answer

def tokens(answer):
    for line in answer:
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                yield choice["token_ids"]

def prompt_tokens():
    connection = http.client.HTTPConnection(target, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    counted = [line for line in lines if line.startswith("vllm:prompt_tokens_by_source_total{")]
    return [
        sum(float(line.rsplit(" ", 1)[1]) for line in counted if f'source="{name}"' in line) for name in sys.argv[2:]
    ]

before = prompt_tokens()
connection, answer = post(source, prompt=prompt, max_tokens=total, stream=True)
stream, so_far = tokens(answer), []
while len(so_far) < after:
    so_far += next(stream)
# The source finds all of it in its own cache and lends it, while it goes on generating.
_, lent = post(source, prompt=prompt + so_far, max_tokens=1, kv_transfer_params=LEND)
params = json.load(lent)["kv_transfer_params"]
overtaken = next(stream)
connection.close()
_, answer = post(target, prompt=prompt + so_far, max_tokens=total - len(so_far), stream=True, kv_transfer_params=params)
moved = [token for event in tokens(answer) for token in event]
print(json.dumps([so_far, overtaken, moved, *(now - then for now, then in zip(prompt_tokens(), before))]))
"""

# Runs in the client pod: whole and streamed answers of the package that users have.
OPENAI = """
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=200)
message = [{"role": "user", "content": "Which way to the harbour?"}]
asked = dict(model="tiny", messages=message, max_tokens=24, temperature=0, seed=1, extra_body={"ignore_eos": True})
whole = client.chat.completions.create(**asked)
pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True) if chunk.choices]
assert whole.choices[0].message.content == "".join(pieces), (whole, pieces)
print(whole.usage.completion_tokens)
"""


@pytest.fixture(scope="session")
def mounted() -> MountedVllm:
    """The environment that `e2e/vllm` keeps, where it is there already."""
    installed = environment.environment()
    if not installed.complete:
        pytest.skip("vLLM is not installed: `make vllm-environment` installs it")
    installed.engine_cache.mkdir(exist_ok=True)
    return MountedVllm(
        python=str(installed.python),
        model=str(installed.model),
        cache=str(installed.engine_cache),
        read_only=(str(installed.folder / "venv"), str(installed.model), sys.base_prefix, str(SITE)),
        python_path=str(SITE),
    )


class Apart:
    """A prefill and a decode engine, each on a node of its own, a router before them, and a pod to ask from."""

    def __init__(self, namespace: Namespace, mounted: MountedVllm) -> None:
        cluster = namespace.cluster
        assert isinstance(cluster, LocalCluster)
        self.namespace = namespace
        self.cluster = cluster
        host = images.engine_host()
        cluster.import_image(host)
        nodes = cluster.nodes()
        engines = [Engine("prefill", "prefill", nodes[0]), Engine("decode", "decode", nodes[1])]
        for described in engines:
            namespace.apply(*vllm.engine(host.reference, described, mounted))
        # Where the tests end a node's kubelet, router and client are not: the one's pod would leave its Service, and only
        # a kubelet runs commands in the other's.
        namespace.apply(
            *serving.router(cluster.image, engines, node=nodes[1]),
            vllm.client(host.reference, nodes[1], mounted),
        )
        self.wait_for("prefill", "decode", "router", "client")
        self._python = mounted.python
        self.router = f"http://router.{namespace.name}.svc.cluster.local"
        # The router asks engines that were not there at first at growing intervals.
        eventually(self.answers, "the router finds no engine")

    def wait_for(self, *deployments: str) -> None:
        for name in deployments:
            self.namespace.wait_for_rollout(name, READY_SECONDS)

    def in_client(self, program: str, *arguments: str) -> str:
        """What a Python program prints in the client pod."""
        return self.run_in_client(self._python, "-c", program, *arguments)

    def run_in_client(self, *argv: str) -> str:
        return self.namespace.kubectl("exec", "deployment/client", "--", *argv, timeout=400)

    def complete(self, url: str, prompt: list[int], tokens: int) -> tuple[int, Any]:
        """Status and tokens, or what was said instead."""
        order = json.dumps([url, {"prompt": prompt, "max_tokens": tokens}])
        status, answered = json.loads(self.in_client(COMPLETE, order))
        return status, answered

    def answers(self) -> bool:
        return self.complete(self.router, fresh(8), 1)[0] == 200

    def url(self, engine: str) -> str:
        return f"http://{engine}:{ENGINE_PORT}"

    def pulled(self, engine: str) -> float:
        """Tokens of prompts whose KV an engine had from another."""
        lines = self.in_client(serving.FETCH, f"{self.url(engine)}/metrics").splitlines()
        counted = [line for line in lines if line.startswith("vllm:prompt_tokens_by_source_total{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counted if f'source="{PULLED}"' in line)

    def node_of(self, engine: str) -> str:
        (pod,) = self.pods(engine)
        return str(pod["spec"]["nodeName"])

    def pods(self, engine: str) -> list[Any]:
        found = self.namespace.get("pods", f"--selector=app.kubernetes.io/name={engine}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def gives_the_tokens_of_one(self) -> bool:
        """Whether a long prompt's KV goes from node to node, and the answer is that of one engine alone."""
        prompt = fresh(300)
        before = self.pulled("decode")
        status, tokens = self.complete(self.router, prompt, 32)
        if status != 200 or self.pulled("decode") == before:
            return False
        of_one, alone = self.complete(self.url("prefill"), prompt, 32)
        if of_one == NOBODY_LISTENS:  # a node learns a while after the router that a Service has a pod again
            return False
        assert (200, tokens) == (of_one, alone)
        assert len(tokens) == 32
        return True


def fresh(count: int) -> list[int]:
    """A prompt of token ids that no engine has in its cache."""
    return [random.randrange(40, 3000) for _ in range(count)]


@pytest.fixture(scope="module")
def apart(cluster: Cluster, mounted: MountedVllm) -> Iterator[Apart]:
    with Namespace(cluster, "real-engines") as fresh_namespace:
        yield Apart(fresh_namespace, mounted)


def test_prefill_and_decode_on_two_nodes_give_the_tokens_of_one(apart: Apart) -> None:
    assert apart.node_of("prefill") != apart.node_of("decode")
    assert apart.gives_the_tokens_of_one()


@pytest.mark.parametrize(("source", "target"), [("prefill", "decode"), ("decode", "prefill")])
@pytest.mark.parametrize(("prompt_tokens", "after"), [(101, 60), (700, 20)])
def test_a_running_stream_is_handed_over_to_the_other_node_and_its_tokens_stay_the_same(
    apart: Apart, source: str, target: str, prompt_tokens: int, after: int
) -> None:
    prompt, total = fresh(prompt_tokens), 400
    hosts = [f"{name}:{ENGINE_PORT}" for name in (source, target)]
    order = json.dumps([*hosts, prompt, after, total])
    so_far, overtaken, moved, pulled, computed = json.loads(
        apart.in_client(HAND_OVER, order, PULLED, COMPUTED)
    )
    assert after <= len(so_far) < total
    # It was running still: what came meanwhile is what the other one begins with.
    assert overtaken
    assert moved[: len(overtaken)] == overtaken
    status, alone = apart.complete(apart.url(source), prompt, total)
    assert status == 200
    assert so_far + moved == alone
    assert pulled >= prompt_tokens + len(so_far) - 1
    assert computed <= 1


def test_curl_and_the_openai_package_get_answers_in_a_pod_by_the_services_name(apart: Apart) -> None:
    listed = apart.run_in_client("curl", "--silent", "--show-error", "--fail", f"{apart.router}/v1/models")
    assert [model["id"] for model in json.loads(listed)["data"]] == [serving.MODEL]
    body = json.dumps({"model": serving.MODEL, "prompt": "Which way?", "max_tokens": 7, "ignore_eos": True})
    header = "content-type: application/json"
    argv = ("curl", "--silent", "--show-error", "--fail", "--header", header, "--data", body)
    answered = json.loads(apart.run_in_client(*argv, f"{apart.router}/v1/completions"))
    assert answered["usage"]["completion_tokens"] == 7
    assert apart.in_client(OPENAI, f"{apart.router}/v1") == "24\n"


def test_answers_go_on_while_the_kubelet_and_containerd_of_a_node_are_dead(apart: Apart) -> None:
    node = apart.node_of("prefill")
    (before,) = apart.pods("prefill")
    apart.cluster.kill_node(node)
    try:
        eventually(lambda: not apart.cluster.node_is_ready(node), "the node still counts as ready")
        eventually(apart.answers, "no answer while the node is not ready")
    finally:
        apart.cluster.revive_node(node)
    eventually(lambda: apart.cluster.node_is_ready(node), "the node does not come back")
    eventually(apart.gives_the_tokens_of_one, "the engine on the node that came back is not used")
    (after,) = apart.pods("prefill")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_an_engine_that_is_evicted_is_replaced_and_used_again(apart: Apart) -> None:
    (before,) = apart.pods("decode")
    name = before["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": apart.namespace.name},
    }
    path = f"/api/v1/namespaces/{apart.namespace.name}/pods/{name}/eviction"
    apart.cluster.kubectl("create", f"--raw={path}", "-f", "-", stdin=json.dumps(eviction))
    apart.wait_for("decode")
    (after,) = apart.pods("decode")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    eventually(apart.gives_the_tokens_of_one, "the engine that took its place is not used")


def test_without_endpoints_clients_hear_why_and_later_get_answers_again(apart: Apart) -> None:
    for name in ("prefill", "decode"):
        apart.namespace.kubectl("scale", "deployment", name, "--replicas=0")
    eventually(
        lambda: apart.complete(apart.router, fresh(8), 1)[0] == 503, "an answer comes from nowhere", 180
    )
    for name in ("prefill", "decode"):
        apart.namespace.kubectl("scale", "deployment", name, "--replicas=1")
    apart.wait_for("prefill", "decode")
    eventually(apart.gives_the_tokens_of_one, "the engines that came back are not used")
