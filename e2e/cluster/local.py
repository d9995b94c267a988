"""The provider that needs nothing but this machine: a cluster in a sandbox, with fake nodes or real ones."""

import http
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from e2e.cluster import (
    binaries,
    dns,
    first_objects,
    image_store,
    images,
    leader_worker_set,
    metrics_server,
    network,
    oci,
)
from e2e.cluster.cluster import Cluster, search_path
from e2e.cluster.control_plane import Binaries, ControlPlane
from e2e.cluster.node import Node
from e2e.cluster.sandbox import Sandbox

CLUSTERS = binaries.PROJECT / "build" / "cluster"
FAILED_STARTS = binaries.PROJECT / "build" / "artefacts" / "failed-starts"
FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"


class LocalCluster(Cluster):
    """A cluster of this machine. `start_control_plane` and `start_cluster` make one; leaving its context ends it."""

    image = images.PROJECT_IMAGE

    def __init__(
        self, sandbox: Sandbox, built: Binaries, begun: Path, nodes: int, store: Path | None
    ) -> None:
        """Start a control plane on the first objects in `begun`, and what nodes run before it answers, with the images of `store`.

        Raises SandboxError, CommandError.
        """
        addresses = [network.NodeAddress(index) for index in range(nodes)]
        network.connect(sandbox, addresses)
        self.sandbox = sandbox
        self._binaries = built
        self._nodes = {address.name: Node(sandbox, address, built.kubernetes) for address in addresses}
        self.control_plane = ControlPlane(sandbox, built, list(self._nodes), begun)
        self.control_plane.start_clients()
        for node in self._nodes.values():
            node.start_containerd(store)

    @property
    def environment(self) -> Mapping[str, str]:
        path = search_path(self._binaries.kubernetes, self._binaries.helm)
        return {"KUBECONFIG": str(self.control_plane.kubeconfig_of("admin")), "PATH": path}

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        return self.sandbox.command(argv)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the cluster and remove every trace of it."""
        self.sandbox.close()

    def add_fake_nodes(self, count: int, *, gpus: int = 8) -> None:
        """Add nodes without containers: pods on them run as soon as they are scheduled. kwok keeps them alive."""
        if not self.sandbox.is_running("kwok"):
            self.control_plane.start_kwok()
        first = len(self.nodes())
        fakes = [fake_node(f"fake-{number}", gpus) for number in range(first, first + count)]
        # Created, not applied: applying a Node drops its status.
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": fakes})
        self.kubectl("create", "-f", "-", stdin=items)

    def serve_metrics(self, built: Path) -> None:
        """Start metrics-server, whose commands are in a folder, unless it runs. Raises SandboxError, NotReadyError."""
        plane = self.control_plane
        if not self.sandbox.is_running("metrics-server"):
            metrics_server.start(plane, built)
            self.apply(*metrics_server.objects())
        plane.wait("metrics-server does not answer", lambda: metrics_server.answers(plane))

    def serve_leader_worker_sets(self, built: Path) -> None:
        """Start LeaderWorkerSet's controller, whose commands are in a folder, unless it runs. Raises SandboxError."""
        if self.sandbox.is_running(leader_worker_set.FOLDER):
            return
        self.apply(*leader_worker_set.definitions())
        # The controller ends where its kind is not served yet.
        self.control_plane.wait(
            "LeaderWorkerSets are not served", lambda: self.serves(leader_worker_set.RESOURCE)
        )
        self.kubectl("create", "namespace", leader_worker_set.NAMESPACE)
        certificate = leader_worker_set.start(self.control_plane, built)
        self.apply(*leader_worker_set.webhooks(built, certificate.certificate.read_bytes()))

    def give_gpus(self, node: str, gpus: int) -> None:
        """Let the scheduler count GPUs on a real node that has none."""
        patch = json.dumps({"status": {"capacity": {"nvidia.com/gpu": str(gpus)}}})
        self.kubectl("patch", "node", node, "--subresource=status", "--type=merge", f"--patch={patch}")

    def run_nodes(self) -> None:
        """Bring up kubelets, Services, names and policies. Raises SandboxError, NotReadyError."""
        plane = self.control_plane
        # Kubelets ask again and again, at growing intervals: better not before somebody answers.
        plane.wait("the API server does not listen", plane.listens)
        for node in self._nodes.values():
            node.start_kubelet(plane.kubeconfig_of(node.name))
            node.start_kube_proxy(plane.kubeconfig_of("kube-proxy"))
        dns.start(self.sandbox, self._binaries.coredns, plane.kubeconfig_of("coredns"))
        plane.wait_until_ready()
        for path, created in dns.objects().items():
            plane.create(path, created)
        plane.wait("the nodes are not ready", self._nodes_are_ready)
        for node in self._nodes.values():
            command, kubeconfig = self._binaries.network_policies, plane.kubeconfig_of("network-policies")
            node.start_network_policies(command, kubeconfig)

    def import_image(self, archive: oci.ImageArchive) -> None:
        """Give an image to every node. Raises CommandError."""
        for node in self._nodes.values():
            node.containerd.import_image(archive.path)

    def kill_node(self, name: str) -> None:
        self._nodes[name].kill()

    def revive_node(self, name: str) -> None:
        self._nodes[name].revive()

    def cut_off(self, name: str) -> None:
        """Take a node, and whatever runs on it, off the network: as when it loses its power. Raises CommandError."""
        self.sandbox.run(["ip", "link", "set", name, "down"])

    def join(self, name: str) -> None:
        """Put a node back on the network. Raises CommandError."""
        self.sandbox.run(["ip", "link", "set", name, "up"])

    def collect_logs(self, folder: Path) -> None:
        shutil.copytree(self.sandbox.logs, folder, dirs_exist_ok=True)
        for node in self._nodes.values():
            if node.folders.pod_logs.is_dir():
                shutil.copytree(node.folders.pod_logs, folder / node.name, dirs_exist_ok=True)

    def _nodes_are_ready(self) -> bool:
        status, body = self.control_plane.get("/api/v1/nodes")
        if status != http.HTTPStatus.OK:
            return False
        nodes = json.loads(body)["items"]
        return len(nodes) == len(self._nodes) and all(
            any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in node["status"].get("conditions", [])
            )
            and not node["spec"].get("taints")
            for node in nodes
        )


def build(kubernetes: str) -> Binaries:
    """The commands of a cluster of the given minor version, built when they are not there yet. Raises CommandError."""
    return Binaries(
        kubernetes=binaries.build(f"kubernetes-{kubernetes}"),
        etcd=binaries.build("etcd"),
        kwok=binaries.build("kwok"),
        coredns=binaries.build("coredns"),
        network_policies=binaries.build("network-policies"),
        helm=binaries.build("helm-4"),
    )


def start_control_plane(kubernetes: str, *, parent: Path = CLUSTERS) -> LocalCluster:
    """A control plane without nodes, ready. Raises SandboxError, NotReadyError, CommandError."""
    return _start(kubernetes, parent, nodes=0, store=None)


def start_cluster(kubernetes: str, *, nodes: int = 2, parent: Path = CLUSTERS) -> LocalCluster:
    """Real nodes with the project's image, Services and DNS, ready. Raises as above, and ImageTooLargeError."""
    return _start(kubernetes, parent, nodes=nodes, store=store())


def store() -> Path:
    """What every node has of images from the beginning. Raises CommandError, SandboxError, ImageTooLargeError."""
    return image_store.prepared([images.pause(), images.project()])


def _start(kubernetes: str, parent: Path, *, nodes: int, store: Path | None) -> LocalCluster:
    built = build(kubernetes)
    begun = first_objects.prepared(built)
    sandbox = Sandbox(parent)
    try:
        cluster = LocalCluster(sandbox, built, begun, nodes, store)
        if nodes:
            cluster.run_nodes()
        else:
            cluster.control_plane.wait_until_ready()
    except BaseException:
        # The logs say why, and go with the sandbox.
        shutil.copytree(sandbox.logs, FAILED_STARTS / sandbox.folder.name)
        sandbox.close()
        raise
    return cluster


def fake_node(name: str, gpus: int) -> dict[str, Any]:
    resources = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE_ANNOTATION: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"allocatable": resources, "capacity": resources},
    }
