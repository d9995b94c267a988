"""Real vLLM from a ModelService: the operator's command line, probes and drain, prefill and decode apart, the chart's router.

vLLM is no image here: its environment and Python are mounted from the node by the pools' templates, and everything else is
what the operator makes of the spec.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from e2e.cluster import commands, images
from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.released import JSON, MODEL, Released, released
from realengine import environment
from realengine.engine import SITE
from realengine.environment import Environment

pytestmark = [pytest.mark.local_cluster, pytest.mark.long, pytest.mark.timeout(2400)]

READY_SECONDS = 900.0  # 25 s on an idle machine
GRACE_SECONDS = 120
LONG_TOKENS = 400
CLAIM = "models"
OWN = "http://127.0.0.1:8000"

# Streams a completion from the router: what came, how it ended, and who made it.
STREAM = """
import json, sys, urllib.request
url, tokens = sys.argv[1], int(sys.argv[2])
prompt = "The harbour lies behind the station, and the station lies behind the river. " * 24
body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True}}
headers = {"content-type": "application/json", "x-pointsman-explain": "1"}
order = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), headers)
text, pieces, reason, tokens = "", 0, None, 0
with urllib.request.urlopen(order, timeout=600) as answer:
    print(answer.headers.get("x-pointsman-decision", ""), flush=True)
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        for choice in chunk["choices"]:
            text, pieces, reason = text + choice["text"], pieces + 1, choice["finish_reason"] or reason
            if pieces == 1:
                print("streaming", flush=True)
print(json.dumps({"text": text, "pieces": pieces, "tokens": tokens, "reason": reason}))
"""
METRIC = """
import sys, urllib.request
lines = urllib.request.urlopen(sys.argv[1] + "/metrics", timeout=60).read().decode().splitlines()
print(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sys.argv[2])))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed answer."""

    decision: str
    text: str
    pieces: int
    tokens: int
    reason: str


@pytest.fixture(scope="module")
def vllm() -> Environment:
    """The environment that `e2e/vllm` keeps, where it is there already."""
    installed = environment.environment()
    if not installed.complete:
        pytest.skip("vLLM is not installed; the tests of e2e/vllm install it")
    installed.engine_cache.mkdir(exist_ok=True)
    return installed


def volume(name: str, vllm: Environment) -> list[JSON]:
    """The model as a claim that is bound to a folder of the nodes."""
    storage = {"storage": "1Gi"}
    modes = ["ReadOnlyMany"]
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": storage,
                "accessModes": modes,
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"name": CLAIM, "namespace": name},
                "hostPath": {"path": str(vllm.model), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": name},
            "spec": {
                "accessModes": modes,
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": storage},
            },
        },
    ]


def spec(image: str, vllm: Environment) -> JSON:
    """Two pools of one instance each."""
    read_only = [str(vllm.folder / "venv"), sys.base_prefix, str(SITE)]
    folders = [*read_only, str(vllm.engine_cache)]
    mounted = {
        "spec": {
            "containers": [
                {
                    "name": "engine",
                    "volumeMounts": [
                        {"name": f"host-{at}", "mountPath": path, "readOnly": path in read_only}
                        for at, path in enumerate(folders)
                    ],
                }
            ],
            "volumes": [
                {"name": f"host-{at}", "hostPath": {"path": path, "type": "Directory"}}
                for at, path in enumerate(folders)
            ],
        }
    }
    variables = {
        "HF_HUB_OFFLINE": "1",
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "OMP_NUM_THREADS": "1",
        "PATH": f"{vllm.python.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(SITE),
        "UCX_TLS": "tcp,self",
        "VLLM_CACHE_ROOT": str(vllm.engine_cache),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return {
        "model": {"name": MODEL, "source": {"pvc": {"claimName": CLAIM}}, "contextTokens": 2048},
        "engine": {
            "type": "vllm",
            "image": image,
            "connector": "nixl",
            "gracePeriodSeconds": GRACE_SECONDS,
            "shmSize": "1Gi",
            # What a processor in place of a GPU asks for; the rest is the operator's.
            "args": [
                "--dtype=float32",
                "--enforce-eager",
                "--block-size=32",
                "--max-num-seqs=16",
                "--seed=0",
            ],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
        },
        "pools": [
            {
                "name": role,
                "role": role,
                "replicas": 1,
                "accelerators": [{"name": "cpu", "count": 0}],
                "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}},
                "template": mounted,
            }
            for role in ("prefill", "decode")
        ],
        "rollout": {"maxSurge": 1, "progressDeadlineSeconds": int(READY_SECONDS)},
    }


@pytest.fixture(scope="module")
def service(
    cluster: Cluster, image_values: JSON, vllm: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    assert isinstance(cluster, LocalCluster)
    host = images.engine_host()
    cluster.import_image(host)
    with released(cluster, "real-pools", tmp_path_factory.mktemp("load"), image_values) as made:
        name = made.namespace.name
        cluster.apply(*volume(name, vllm))
        made.apply(spec(host.reference, vllm))
        for pool in ("prefill", "decode"):
            eventually(partial(made.settled, 1, pool), f"{pool} does not serve", READY_SECONDS)
        eventually(made.ready, "the service is not ready", 60)
        yield made
        cluster.kubectl("delete", "pv", name, "--wait=false")


def pod_of(service: Released, pool: str) -> JSON:
    """The one that is not about to end."""
    found = service.namespace.get("pods", f"--selector=pointsman.io/pool={pool}")["items"]
    (only,) = (each for each in found if "deletionTimestamp" not in each["metadata"])
    return dict(only)


def run(service: Released, program: str, *arguments: str) -> str:
    """What a Python program prints in the cluster's network."""
    return service.cluster.run([sys.executable, "-c", program, *arguments], timeout=700).stdout


def inside(service: Released, pool: str, program: str, *arguments: str) -> str:
    """What a Python program prints in an engine's pod: policies keep all but routers and engines from its port."""
    pod = pod_of(service, pool)["metadata"]["name"]
    return service.namespace.kubectl("exec", pod, "--", "python3", "-c", program, *arguments, timeout=700)


def answer_of(printed: str) -> Answer:
    decision, *_, last = printed.splitlines()
    return Answer(decision, **json.loads(last))


def metric(service: Released, pool: str, name: str) -> float:
    return float(inside(service, pool, METRIC, OWN, name))


@contextmanager
def watched(service: Released, pod: str) -> Iterator["subprocess.Popen[str]"]:
    """A watch that prints the exit code of a pod's engine, once there is one."""
    shown = "--output=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}{'\\n'}"
    argv = ["kubectl", f"--namespace={service.namespace.name}", "get", "pod", pod, "--watch", shown]
    environ = {**commands.without_proxies(), **service.cluster.environment}
    with subprocess.Popen(
        service.cluster.command(argv), env=environ, stdout=subprocess.PIPE, text=True
    ) as watching:
        try:
            yield watching
        finally:
            watching.kill()


def test_prefill_and_decode_give_the_tokens_of_one_engine(service: Released) -> None:
    through_both = answer_of(run(service, STREAM, service.url, "32"))
    assert through_both.reason == "length"
    assert through_both.pieces > 1
    addresses = {pool: pod_of(service, pool)["status"]["podIP"] for pool in ("prefill", "decode")}
    assert f"prefill=http://{addresses['prefill']}:8000" in through_both.decision
    assert f"decode=http://{addresses['decode']}:8000" in through_both.decision
    by_one = answer_of(inside(service, "prefill", STREAM, OWN, "32"))
    assert through_both.text == by_one.text
    assert metric(service, "decode", "vllm:external_prefix_cache_hits_total") > 0


def test_an_engine_that_is_deleted_ends_its_answers_first(service: Released) -> None:
    """By the hook: vLLM itself refuses what comes once it has its SIGTERM, and `--shutdown-timeout` is much shorter."""
    pod = pod_of(service, "decode")["metadata"]["name"]
    argv: list[str | Path] = [sys.executable, "-c", STREAM, service.url, str(LONG_TOKENS)]
    environ = {**commands.without_proxies(), **service.cluster.environment}
    with (
        watched(service, pod) as watching,
        subprocess.Popen(
            service.cluster.command(argv), env=environ, stdout=subprocess.PIPE, text=True
        ) as streaming,
    ):
        assert streaming.stdout is not None
        decision = streaming.stdout.readline()
        assert streaming.stdout.readline() == "streaming\n"
        service.namespace.kubectl("delete", "pod", pod, "--wait=false")
        rest, _ = streaming.communicate(timeout=600)
        eventually(lambda: pod not in every_pod(service), "the pod does not end", 2 * GRACE_SECONDS)
        watching.kill()
        assert watching.stdout is not None
        codes = {line.strip() for line in watching.stdout} - {""}
    ended = answer_of(decision + rest)
    assert (ended.reason, ended.tokens) == ("length", LONG_TOKENS)
    assert codes == {"0"}
    eventually(lambda: service.settled(1, "decode"), "no other engine takes its place", READY_SECONDS)


def every_pod(service: Released) -> set[str]:
    return {each["metadata"]["name"] for each in service.namespace.get("pods")["items"]}


def test_what_the_operator_told_the_engines(service: Released) -> None:
    for pool in ("prefill", "decode"):
        (container,) = pod_of(service, pool)["spec"]["containers"]
        assert container["command"] == ["vllm", "serve"]
        assert container["args"][0] == "/models/model"
        assert "--shutdown-timeout=29" in container["args"]
        assert "--max-model-len=2048" in container["args"]
