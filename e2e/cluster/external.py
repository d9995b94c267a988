"""Clusters that this project does not run itself: kind, in Docker, and whatever KUBECONFIG points to."""

import os
import secrets
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from e2e.cluster import binaries, commands
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import CommandError

# Which version of Kubernetes kind runs is its release's choice, unless this names one of its node images.
NODE_IMAGE_VARIABLE = "KIND_NODE_IMAGE"
KIND_IMAGE = "pointsman:e2e"
KIND_CONFIGURATION = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
  - role: worker
  - role: worker
"""
CURRENT_IMAGE_VARIABLE = "POINTSMAN_IMAGE"


def reaches_services() -> bool:
    """Whether this process is in the network of KUBECONFIG's cluster: it knows the API server by its Service's name."""
    try:
        socket.getaddrinfo("kubernetes.default.svc.cluster.local", 443)
    except OSError:
        return False
    return True


class CurrentCluster(Cluster):
    """Somebody's cluster. Its nodes must be able to pull the image that POINTSMAN_IMAGE names."""

    def __init__(self) -> None:
        """Raises CommandError when KUBECONFIG or POINTSMAN_IMAGE is not set."""
        for variable in ("KUBECONFIG", CURRENT_IMAGE_VARIABLE):
            if not os.environ.get(variable):
                raise CommandError(f"--cluster current needs {variable} to be set")
        self.image = os.environ[CURRENT_IMAGE_VARIABLE]

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        return list(map(str, argv))

    def kill_node(self, name: str) -> None:
        raise CommandError(f"{name} is not ours to kill")

    def revive_node(self, name: str) -> None:
        raise CommandError(f"{name} is not ours to start")

    def collect_logs(self, folder: Path) -> None:
        """Component logs of such a cluster cannot be had; objects, events and containers' logs are collected anyway."""


class KindCluster(Cluster):
    """A cluster by `kind`, made when its context begins and removed when it ends. Docker builds the image."""

    image = KIND_IMAGE

    def __init__(self) -> None:
        self._name = f"pointsman-{secrets.token_hex(3)}"
        self._folder = tempfile.TemporaryDirectory(prefix="pointsman-kind-")

    @property
    def environment(self) -> Mapping[str, str]:
        return {"KUBECONFIG": str(Path(self._folder.name) / "kubeconfig")}

    def __enter__(self) -> Self:
        _run("docker", "build", f"--tag={KIND_IMAGE}", str(binaries.PROJECT))
        configuration = Path(self._folder.name) / "kind.yaml"
        configuration.write_text(KIND_CONFIGURATION)
        named = os.environ.get(NODE_IMAGE_VARIABLE)
        node_image = [f"--image={named}"] if named else []
        try:
            self._kind("create", "cluster", f"--config={configuration}", "--wait=120s", *node_image)
            self._kind("load", "docker-image", KIND_IMAGE)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        self._kind("delete", "cluster")
        self._folder.cleanup()

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        return list(map(str, argv))

    def nodes(self) -> list[str]:
        """The workers: kind's control plane takes no pods."""
        return [name for name in super().nodes() if not name.endswith("-control-plane")]

    def kill_node(self, name: str) -> None:
        _run("docker", "exec", name, "systemctl", "kill", "--signal=KILL", "kubelet", "containerd")
        _run("docker", "exec", name, "systemctl", "stop", "kubelet", "containerd")

    def revive_node(self, name: str) -> None:
        _run("docker", "exec", name, "systemctl", "start", "containerd", "kubelet")

    def collect_logs(self, folder: Path) -> None:
        self._kind("export", "logs", str(folder))

    def _kind(self, *arguments: str) -> None:
        command, *rest = arguments
        kubeconfig = ["--kubeconfig", self.environment["KUBECONFIG"]] if "cluster" in rest else []
        _run("kind", command, *rest, "--name", self._name, *kubeconfig)


def _run(*argv: str) -> None:
    commands.run(argv, environment=commands.without_proxies())
