"""A control plane with fake nodes: what the operator's logic, scale and crash tests stand on."""

import json
from pathlib import Path

import pytest

from e2e.cluster import binaries, local, plugin
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.local import LocalCluster

WATCHER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "pod-reader"},
    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
}


@pytest.fixture(scope="module")
def with_nodes(control_plane: LocalCluster) -> LocalCluster:
    control_plane.add_fake_nodes(3, gpus=8)
    eventually(
        lambda: all(map(control_plane.node_is_ready, control_plane.nodes())), "fake nodes are not ready"
    )
    return control_plane


def deployment(name: str, replicas: int, gpus: int) -> dict[str, object]:
    labels = {"app": name}
    container = {"name": "main", "image": "fake", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def test_it_says_which_version_it_is(control_plane: LocalCluster, kubernetes: str) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    for side in ("clientVersion", "serverVersion"):
        assert version[side]["gitVersion"].startswith(f"v{kubernetes}.")


def test_pods_run_on_fake_nodes_and_gpus_are_counted(with_nodes: LocalCluster) -> None:
    with_nodes.apply(deployment("fits", replicas=6, gpus=4))
    with_nodes.kubectl("rollout", "status", "deployment/fits", "--timeout=60s")
    with_nodes.apply(deployment("late", replicas=1, gpus=4))
    eventually(
        lambda: "Insufficient nvidia.com/gpu" in with_nodes.kubectl("get", "events"),
        "nothing says that no GPU is left",
    )
    with_nodes.kubectl("delete", "deployment", "fits")
    with_nodes.kubectl("rollout", "status", "deployment/late", "--timeout=60s")


def test_permissions_are_enforced_and_the_audit_log_names_who_asked(control_plane: LocalCluster) -> None:
    control_plane.apply(WATCHER)
    control_plane.kubectl("create", "serviceaccount", "reader")
    control_plane.kubectl(
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=pod-reader",
        "--serviceaccount=default:reader",
    )
    token = control_plane.kubectl("create", "token", "reader").strip()
    control_plane.kubectl(f"--token={token}", "get", "pods")
    with pytest.raises(CommandError, match="cannot list resource"):
        control_plane.kubectl(
            "--kubeconfig=/dev/null", *server_of(control_plane), f"--token={token}", "get", "secrets"
        )
    refused = [
        entry
        for entry in map(json.loads, control_plane.control_plane.audit_log.read_text().splitlines())
        if entry["user"]["username"] == "system:serviceaccount:default:reader"
        and entry["annotations"]["authorization.k8s.io/decision"] == "forbid"
    ]
    assert {entry["objectRef"]["resource"] for entry in refused} == {"secrets"}


def server_of(cluster: LocalCluster) -> list[str]:
    config = json.loads(Path(cluster.environment["KUBECONFIG"]).read_text())
    return [f"--server={config['clusters'][0]['cluster']['server']}", "--insecure-skip-tls-verify"]


def test_helm_of_both_majors_finds_it(control_plane: LocalCluster) -> None:
    for folder in ("helm-3", "helm-4"):
        helm = binaries.build(folder) / "helm"
        assert control_plane.run([helm, "list"]).stdout.startswith("NAME")


def test_two_control_planes_do_not_see_each_other(
    control_plane: LocalCluster, kubernetes: str, tmp_path: Path
) -> None:
    plugin.skip_where_impossible(nodes=False)
    with local.start_control_plane(kubernetes, parent=tmp_path) as other:
        other.kubectl("create", "namespace", "of-the-other")
        assert "of-the-other" not in control_plane.kubectl("get", "namespaces")
    assert list(tmp_path.iterdir()) == []


def test_a_crashed_component_comes_back_to_the_same_state(control_plane: LocalCluster) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    control_plane.control_plane.restart("kube-apiserver")
    assert control_plane.get("configmap", "kept")["data"] == {"a": "b"}


def test_failures_are_collected_with_logs_objects_and_events(
    control_plane: LocalCluster, tmp_path: Path
) -> None:
    fits_nowhere = json.dumps({"spec": {"nodeSelector": {"there-is": "none"}}})
    control_plane.kubectl("run", "waiting", "--image=none", f"--overrides={fits_nowhere}")
    of_it = ("get", "events", "--field-selector=involvedObject.name=waiting")
    eventually(lambda: "FailedScheduling" in control_plane.kubectl(*of_it), "no event says why")
    control_plane.collect(tmp_path)
    assert (tmp_path / "logs" / "kube-apiserver.log").stat().st_size > 0
    assert "FailedScheduling" in (tmp_path / "events.txt").read_text()
    assert "waiting" in (tmp_path / "overview.txt").read_text()
    assert "FailedScheduling" in (tmp_path / "pods.txt").read_text()
    assert "name: waiting" in (tmp_path / "objects" / "default" / "pods.yaml").read_text()
    control_plane.kubectl("delete", "pod", "waiting")
