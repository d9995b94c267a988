"""The seam between scenarios and the cluster they run on: what every provider's cluster can do."""

import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.cluster import commands

POLL_SECONDS = 0.2
COLLECT_SECONDS = 60.0

# What one looks at first after a failure, by file.
OVERVIEWS = {
    "events.txt": ("events", "--all-namespaces"),  # in the order of time
    "overview.txt": (
        "get",
        "nodes,deployments,statefulsets,pods,services,endpointslices",
        "-A",
        "-o",
        "wide",
    ),
    "pods.txt": ("describe", "pods", "--all-namespaces", "--show-events"),  # else not of several
    "custom-resources.yaml": ("get", "pointsman", "--all-namespaces", "-o", "yaml"),
}


class NotInTimeError(Exception):
    """Something awaited did not happen in time."""


class Cluster(ABC):
    """A running Kubernetes: made for this run, or somebody's own."""

    #: The project's image, as the nodes know it.
    image: str

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Variables that a command needs to find this cluster: KUBECONFIG, and PATH with kubectl and helm."""

    @abstractmethod
    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` where the API server can be reached."""

    @abstractmethod
    def kill_node(self, name: str) -> None:
        """End a node's kubelet and containerd as a crash would; its containers live on."""

    @abstractmethod
    def revive_node(self, name: str) -> None:
        """Start again what `kill_node` ended."""

    @abstractmethod
    def collect_logs(self, folder: Path) -> None:
        """Copy the logs of the cluster's own components into a folder, as far as they can be had."""

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: str | None = None,
        timeout: float = 60.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine that reaches the API server. Raises CommandError unless `check` is false."""
        environment = {**commands.without_proxies(), **self.environment}
        return commands.run(
            self.command(argv), environment=environment, stdin=stdin, timeout=timeout, check=check
        )

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Standard output of kubectl. Raises CommandError."""
        return self.run(["kubectl", *arguments], stdin=stdin, timeout=timeout).stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply. Raises CommandError."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f", "-", stdin=items
        )

    def get(self, *arguments: str) -> Any:
        """`kubectl get ARGUMENTS -o json`, parsed. Raises CommandError."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def serves(self, resource: str) -> bool:
        """Whether the API has a kind, like `leaderworkersets.leaderworkerset.x-k8s.io`."""
        return self.run(["kubectl", "get", resource, "--all-namespaces"], check=False).returncode == 0

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.get("nodes")["items"]]

    def node_is_ready(self, name: str) -> bool:
        conditions = self.get("node", name)["status"].get("conditions", [])
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def collect(self, folder: Path) -> None:
        """Everything that helps to see why a test failed: objects, events, logs of containers and components."""
        folder.mkdir(parents=True, exist_ok=True)
        self.collect_logs(folder / "logs")
        for name, arguments in OVERVIEWS.items():
            (folder / name).write_text(self._said(*arguments))
        objects = folder / "objects"
        objects.mkdir(exist_ok=True)
        dump = ("cluster-info", "dump", "--all-namespaces", "--output=yaml")
        (objects / "dump.log").write_text(self._said(*dump, f"--output-directory={objects}"))

    def _said(self, *arguments: str) -> str:
        """What kubectl said, of whatever kind: a cluster that does not answer is no reason to fail."""
        try:
            finished = self.run(["kubectl", *arguments], timeout=COLLECT_SECONDS, check=False)
        except subprocess.TimeoutExpired as late:
            return f"{late}\n"
        return finished.stdout + finished.stderr


def eventually(condition: Callable[[], bool], otherwise: str, seconds: float = 90.0) -> None:
    """Poll until the condition holds. Raises NotInTimeError, which says `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{otherwise} after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def search_path(*folders: Path) -> str:
    """A PATH that begins with the given folders."""
    return os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
