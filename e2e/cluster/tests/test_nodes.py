"""Real nodes: containers, Services, names, probes, crashes."""

import itertools
import json

import pytest

from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.namespace import Namespace

PYTHON = "python"
SERVE = [PYTHON, "-m", "http.server", "8000", "--directory", "/"]
PORT = 8000

# Nothing that a careful cluster would refuse.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def deployment(
    cluster: Cluster, name: str, *, replicas: int = 1, node: str | None = None
) -> dict[str, object]:
    labels = {"app": name}
    container = {
        "name": "main",
        "image": cluster.image,
        "command": SERVE,
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/etc", "port": PORT}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if node is not None:
        pod["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def fetch(namespace: Namespace, deployment: str, url: str) -> str:
    """HTTP status that a pod gets, or the name of its error."""
    program = f"""
import urllib.request
try:
    print(urllib.request.urlopen({url!r}, timeout=5).status)
except OSError as error:
    print(type(getattr(error, "reason", error)).__name__)
"""
    return namespace.kubectl("exec", f"deployment/{deployment}", "--", PYTHON, "-c", program).strip()


def wait_until_reached(namespace: Namespace, client: str, url: str) -> None:
    # Endpoints are known to every node's kube-proxy a moment after the rollout is complete.
    eventually(lambda: fetch(namespace, client, url) == "200", f"{client} does not reach {url}")


@pytest.fixture
def two(namespace: Namespace) -> Namespace:
    """A server on each of two nodes, each behind a Service of its own."""
    for name, node in zip(("here", "there"), namespace.cluster.nodes(), strict=False):
        namespace.apply(deployment(namespace.cluster, name, node=node), service(name))
    for name in ("here", "there"):
        namespace.wait_for_rollout(name)
    return namespace


def test_pods_reach_services_of_their_own_and_of_other_nodes_by_name(two: Namespace) -> None:
    for client, server in itertools.product(("here", "there"), repeat=2):
        wait_until_reached(two, client, f"http://{server}/etc/")


def test_full_names_are_known_too(two: Namespace) -> None:
    wait_until_reached(two, "here", f"http://there.{two.name}.svc.cluster.local/etc/")


def test_logs_can_be_read(two: Namespace) -> None:
    eventually(lambda: "GET /etc" in two.kubectl("logs", "deployment/here"), "the probe is not in the log")


def test_a_service_without_endpoints_refuses_connections(two: Namespace) -> None:
    two.apply(service("nobody"))
    eventually(
        lambda: fetch(two, "here", "http://nobody/") == "ConnectionRefusedError",
        "the connection is not refused",
    )


def test_a_pod_that_is_evicted_is_replaced(two: Namespace) -> None:
    (before,) = two.get("pods", "--selector=app=here")["items"]
    name = before["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": two.name},
    }
    path = f"/api/v1/namespaces/{two.name}/pods/{name}/eviction"
    two.cluster.kubectl("create", f"--raw={path}", "-f", "-", stdin=json.dumps(eviction))
    two.wait_for_rollout("here")
    pods = two.get("pods", "--selector=app=here", "--field-selector=status.phase=Running")["items"]
    assert name not in [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def test_a_rollout_replaces_every_pod(two: Namespace) -> None:
    before = {pod["metadata"]["uid"] for pod in two.get("pods", "--selector=app=here")["items"]}
    two.kubectl("rollout", "restart", "deployment/here")
    two.wait_for_rollout("here")
    eventually(
        lambda: (
            not before & {pod["metadata"]["uid"] for pod in two.get("pods", "--selector=app=here")["items"]}
        ),
        "an old pod is still there",
    )


@pytest.mark.kills_nodes
def test_containers_outlive_a_crash_of_kubelet_and_containerd(two: Namespace) -> None:
    cluster = two.cluster
    node = cluster.nodes()[1]
    (before,) = two.get("pods", "--selector=app=there")["items"]
    cluster.kill_node(node)
    try:
        eventually(lambda: not cluster.node_is_ready(node), "the node still counts as ready")
        address = before["status"]["podIP"]
        assert fetch(two, "here", f"http://{address}:{PORT}/etc/") == "200"
    finally:
        cluster.revive_node(node)
    eventually(lambda: cluster.node_is_ready(node), "the node does not come back")
    wait_until_reached(two, "here", "http://there/etc/")
    (after,) = two.get("pods", "--selector=app=there")["items"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_pod_that_nobody_can_pull_an_image_for_says_so(namespace: Namespace) -> None:
    namespace.kubectl("run", "lost", "--image=localhost/no-such-image:e2e", "--image-pull-policy=Never")
    eventually(
        lambda: "ErrImageNeverPull" in namespace.kubectl("get", "pods"),
        "nothing says that the image is missing",
    )
    with pytest.raises(CommandError):
        namespace.kubectl("exec", "lost", "--", "true")


@pytest.mark.local_cluster
def test_real_nodes_can_be_given_gpus_to_count(namespace: Namespace) -> None:
    from e2e.cluster.local import LocalCluster

    assert isinstance(namespace.cluster, LocalCluster)
    node = namespace.cluster.nodes()[0]
    namespace.cluster.give_gpus(node, 8)
    eventually(
        lambda: namespace.cluster.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu") == "8",
        "the node has no GPUs to allocate",
    )
