"""Policies are not only accepted: what they do not allow is refused, on the same node and across nodes."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import serving
from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.helm import Release
from e2e.cluster.namespace import Namespace
from e2e.cluster.serving import Engine, Object
from pointsman.api.resources import names

pytestmark = pytest.mark.enforces_policies

ENGINE_POLICY = {"networkPolicy": {"metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]}}
MODEL_SERVICE: dict[str, Any] = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "guarded"},
    "spec": {
        "model": {"name": serving.MODEL},
        "engine": {"type": "simulated", "gracePeriodSeconds": 1, "imagePullPolicy": "IfNotPresent"},
        "pools": [{"name": "all", "replicas": 1, "accelerators": [{"name": "none", "count": 0}]}],
    },
}

# Runs in a pod: does anybody accept a connection there? A policy refuses or swallows it.
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except socket.gaierror:
    raise
except OSError:
    print("closed")
"""
# Runs in a pod: the tokens of a short answer.
ASK = """
import json, sys, urllib.request
body = {"model": "tiny", "messages": [{"role": "user", "content": "Which way?"}], "max_tokens": 7}
request = urllib.request.Request(sys.argv[1], json.dumps(body).encode(), {"content-type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=30))["usage"]["completion_tokens"])
"""


@pytest.fixture
def outside(cluster: Cluster) -> Iterator[Namespace]:
    """Another namespace, with a client in it."""
    with Namespace(cluster, "outside") as fresh:
        fresh.apply(serving.client(cluster.image))
        fresh.wait_for_rollout("client")
        yield fresh


def reaches(namespace: Namespace, client: str, host: str, port: int) -> bool:
    argv = ("python", "-c", CONNECT, host, str(port))
    return namespace.kubectl("exec", f"deployment/{client}", "--", *argv).strip() == "open"


def await_door(stranger: Namespace, place: tuple[str, int], *, wanted: bool) -> None:
    host, port = place
    eventually(
        lambda: reaches(stranger, "client", host, port) == wanted,
        f"{host}:{port} is {'closed' if wanted else 'open'} to {stranger.name}",
    )


def only_from(clients: str) -> Object:
    """Engines take what comes from pods of that name in their own namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "only"},
        "spec": {
            "podSelector": {"matchLabels": serving.labels("engine")},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": serving.labels(clients)}}]}],
        },
    }


@pytest.mark.parametrize("place", ["same node", "another node"])
def test_a_policy_refuses_whom_it_does_not_name_until_it_is_gone(namespace: Namespace, place: str) -> None:
    nodes = namespace.cluster.nodes()
    image, home = namespace.cluster.image, nodes[0 if place == "same node" else 1]
    namespace.apply(*serving.engine(image, Engine("engine", node=nodes[0])), serving.client(image, node=home))
    for name in ("engine", "client"):
        namespace.wait_for_rollout(name)

    def answers() -> bool:
        return reaches(namespace, "client", "engine", serving.ENGINE_PORT)

    eventually(answers, "the engine is not reached while there is no policy")
    namespace.apply(only_from("somebody-else"))
    eventually(lambda: not answers(), "the client is not refused")
    # Probes come from the node, which no policy shuts out.
    assert namespace.get("deployment", "engine")["status"]["readyReplicas"] == 1
    namespace.apply(only_from("client"))
    eventually(answers, "the client is refused though it is named")
    namespace.apply(only_from("somebody-else"))
    eventually(lambda: not answers(), "the client is not refused again")
    namespace.kubectl("delete", "networkpolicy", "only")
    eventually(answers, "the client is refused by a policy that is gone")


def test_the_charts_policies_let_in_who_belongs_there_and_nobody_else(
    namespace: Namespace, outside: Namespace, image_values: dict[str, Any]
) -> None:
    namespace.apply(serving.client(namespace.cluster.image))
    values = {**image_values, **ENGINE_POLICY, "router": {"config": {"admin": {"port": serving.ADMIN_PORT}}}}
    release = Release(namespace.cluster, namespace.name)
    release.install(values)
    namespace.apply(MODEL_SERVICE)
    namespace.kubectl("wait", "--for=condition=Ready", "modelservice/guarded", "--timeout=180s", timeout=190)
    namespace.wait_for_rollout("client")

    (engine,) = namespace.get("pods", "--selector=pointsman.io/model-service=guarded")["items"]
    (router, *_) = namespace.get("pods", "--selector=app.kubernetes.io/component=router")["items"]
    places = {
        "router": (router["status"]["podIP"], serving.ROUTER_PORT),
        "admin": (router["status"]["podIP"], serving.ADMIN_PORT),
        "redis": (f"pointsman-redis.{namespace.name}.svc", 6379),
        "engine": (engine["status"]["podIP"], int(engine["metadata"]["annotations"][names.PORT])),
    }
    for stranger in (namespace, outside):
        await_door(stranger, places["router"], wanted=True)
        for place in ("admin", "redis", "engine"):
            await_door(stranger, places[place], wanted=False)
    # The router is let in everywhere it has to be: Redis by the release's own test, the engine by an answer.
    assert "Succeeded" in release.test()
    url = f"http://pointsman-router.{namespace.name}.svc/v1/chat/completions"
    assert outside.kubectl("exec", "deployment/client", "--", "python", "-c", ASK, url) == "7\n"
    # Without policies the same doors are open: it was they that shut them.
    release.upgrade({**values, "networkPolicy": {"enabled": False}})
    for place in ("admin", "redis", "engine"):
        await_door(outside, places[place], wanted=True)
