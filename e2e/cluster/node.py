"""A node with real containers: containerd, kubelet, kube-proxy and who enforces policies, in a network namespace
of their own.

Debian's containerd, runc and CNI plugins run it; their folders, sockets and cgroups are the node's own, so that two nodes
of one cluster, and those of another cluster, and whatever the machine itself runs, never meet.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import image_store, network, watchdog
from e2e.cluster.containerd import Containerd, Folders
from e2e.cluster.sandbox import Sandbox

PODS_WEIGHT = 16


@dataclass(frozen=True, slots=True)
class NodeFolders(Folders):
    """Where a node keeps what it writes."""

    @property
    def kubelet(self) -> Path:
        """On disk, under a name that is short enough for the sockets in it."""
        return self.memory / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.disk / "pods"


class Node:
    """One node. Its kubelet and containerd can be killed and started again; containers live on meanwhile."""

    def __init__(self, sandbox: Sandbox, address: network.NodeAddress, kubernetes: Path) -> None:
        self.address = address
        self.name = address.name
        self.folders = NodeFolders(sandbox.folder / address.name, Path("/run") / address.name)
        self._sandbox = sandbox
        self._kubernetes = kubernetes
        self.cgroup = f"/{sandbox.folder.name}/{address.name}"
        self._make_cgroups()
        self._sandbox.run(["mkdir", "--parents", self.folders.disk / "kubelet", self.folders.kubelet])
        self._sandbox.run(["mount", "--bind", self.folders.disk / "kubelet", self.folders.kubelet])
        self.containerd = Containerd(sandbox, f"{self.name}-containerd", self.folders, self.name)
        self._write("cni/10-bridge.conflist", json.dumps(cni_configuration(address)))

    def start_containerd(self, store: Path | None) -> None:
        """Start it with the images of a store that was prepared, or with none."""
        if store is not None:
            image_store.link(store, self.folders.image_store)
        self.containerd.start()

    def start_kubelet(self, kubeconfig: Path) -> None:
        configuration = self._write(
            "kubelet.json", json.dumps(kubelet_configuration(self.folders, self.cgroup))
        )
        self._sandbox.start(
            f"{self.name}-kubelet",
            [
                self._kubernetes / "kubelet",
                f"--config={configuration}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address.address}",
                f"--root-dir={self.folders.kubelet}",
                f"--cert-dir={self.folders.disk / 'kubelet-pki'}",
            ],
            node=self.name,
            restart=True,  # it ends while containerd is not ready for it yet
        )

    def start_kube_proxy(self, kubeconfig: Path) -> None:
        configuration = self._write(
            "kube-proxy.json", json.dumps(kube_proxy_configuration(self.address, kubeconfig))
        )
        self._sandbox.start(
            f"{self.name}-kube-proxy",
            [self._kubernetes / "kube-proxy", f"--config={configuration}"],
            node=self.name,
        )

    def start_network_policies(self, command: Path, kubeconfig: Path) -> None:
        """Enforce NetworkPolicies on the node's pods; the API server must know the node."""
        self._sandbox.start(
            f"{self.name}-network-policies",
            [
                command / "network-policies",
                f"--kubeconfig={kubeconfig}",
                f"--node={self.name}",
                f"--services={network.SERVICES}",
            ],
            node=self.name,
            restart=True,  # it ends when another changes the same tables at the same moment
        )

    def kill(self) -> None:
        """End kubelet and containerd at once, as a crash would."""
        for component in ("kubelet", "containerd"):
            self._sandbox.kill(f"{self.name}-{component}")

    def revive(self) -> None:
        """Start again what `kill` ended."""
        for component in ("containerd", "kubelet"):
            self._sandbox.start_again(f"{self.name}-{component}")

    def _write(self, name: str, text: str) -> Path:
        path = self.folders.disk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def _make_cgroups(self) -> None:
        # The kubelet makes its own below; the one it is given as root has to be there, in every hierarchy.
        for hierarchy in watchdog.cgroup_hierarchies():
            group = hierarchy
            for part in self.cgroup.strip("/").split("/"):
                _enable_controllers(group)
                group /= part
                group.mkdir(exist_ok=True)
                _copy_cpuset(group)
            _weigh(group.parent)


def _enable_controllers(group: Path) -> None:
    """Let children of a cgroup of version 2 have every controller that it has itself."""
    available = group / "cgroup.controllers"
    if available.exists() and (names := available.read_text().split()):
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def _weigh(cluster: Path) -> None:
    """Let all of a cluster's pods together count as much as that many ordinary processes of the machine, not as one."""
    for name, default in (("cpu.shares", 1024), ("cpu.weight", 100)):
        if (cluster / name).exists():
            (cluster / name).write_text(str(PODS_WEIGHT * default))


def _copy_cpuset(group: Path) -> None:
    """A new cpuset of version 1 is empty, and nothing can run in it until it says where."""
    if (group / "cgroup.controllers").exists():
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def cni_configuration(address: network.NodeAddress) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"/run/{address.name}/ipam",
            "ranges": [[{"subnet": address.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": address.name, "plugins": [bridge, port_map]}


def kubelet_configuration(folders: NodeFolders, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Nothing but this cluster reaches a node's address; permissions are tested at the API server.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{folders.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # The machine is shared: a full disk or memory of the host is not this cluster's to act on.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": network.CLUSTER_DOMAIN,
        "resolvConf": "",
        "podLogsDir": str(folders.pod_logs),
        "volumePluginDir": str(folders.disk / "volume-plugins"),
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
    }


def kube_proxy_configuration(address: network.NodeAddress, kubeconfig: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": network.PODS,
        "hostnameOverride": address.name,
        "bindAddress": address.address,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # Limits of connection tracking are the host's, not a namespace's.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
