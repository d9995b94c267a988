"""One test's own corner of a cluster."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Self

from e2e.cluster.cluster import Cluster


class Namespace:
    """A Kubernetes namespace that is deleted when its context ends."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.cluster = cluster
        self.name = f"{prefix}-{secrets.token_hex(2)}"

    def __enter__(self) -> Self:
        self.cluster.kubectl("create", "namespace", self.name)
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, timeout=timeout)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply of objects into this namespace. Raises CommandError."""
        self.cluster.apply(
            *({**each, "metadata": {**each["metadata"], "namespace": self.name}} for each in objects)
        )

    def wait_for_rollout(self, deployment: str, seconds: int = 180) -> None:
        """Wait until every pod of a Deployment is the newest and ready. Raises CommandError."""
        self.kubectl(
            "rollout", "status", f"deployment/{deployment}", f"--timeout={seconds}s", timeout=seconds + 10
        )
