"""A release of the chart in a namespace of its own, with the ModelService `tiny`, as tests on real nodes use it."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.helm import Release
from e2e.cluster.load import Fate, Load
from e2e.cluster.namespace import Namespace

JSON = dict[str, Any]
MODEL = "tiny"
SERVICE = "tiny"
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}
NO_ACCELERATOR = [{"name": "none", "count": 0}]
RATE = 4.0
"""Requests a second, unless told otherwise."""
TOKENS = 60
BEGUN_SECONDS = 120.0
"""That a busy machine may take until the first answer is recorded."""


def simulated(*args: str, pools: list[JSON], grace_seconds: int = 30, deadline_seconds: int = 30) -> JSON:
    """A ModelService's spec of simulated engines with these arguments."""
    return {
        "model": {"name": MODEL},
        "engine": {
            "type": "simulated",
            "connector": "nixl",
            "gracePeriodSeconds": grace_seconds,
            "args": list(args),
            "imagePullPolicy": "IfNotPresent",
        },
        "pools": pools,
        "rollout": {"maxSurge": 1, "progressDeadlineSeconds": deadline_seconds},
    }


def pool(name: str = "main", **changes: Any) -> JSON:
    """A pool without accelerators, spread over nodes."""
    return {
        "name": name,
        "accelerators": NO_ACCELERATOR,
        "topology": {"spread": ["kubernetes.io/hostname"]},
        "resources": SMALL,
        **changes,
    }


class Released:
    """What tests ask of the release and its ModelService."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.cluster = namespace.cluster
        self.folder = folder
        self.url = f"http://pointsman-router.{namespace.name}.svc"

    def apply(self, spec: Mapping[str, Any]) -> None:
        """Make the ModelService what it should be."""
        self.namespace.apply(
            {
                "apiVersion": "pointsman.io/v1alpha1",
                "kind": "ModelService",
                "metadata": {"name": SERVICE},
                "spec": spec,
            }
        )

    def pool(self, name: str = "main") -> JSON:
        found: JSON = self.namespace.get("ipool", f"{SERVICE}-{name}")
        return found

    def condition(self, which: str, of: str = f"msvc/{SERVICE}") -> JSON:
        conditions = self.namespace.get(of).get("status", {}).get("conditions", [])
        return next((dict(found) for found in conditions if found["type"] == which), {})

    def settled(self, replicas: int, name: str = "main") -> bool:
        """Whether a pool has so many instances, all of them as its spec is now, and ready."""
        found = self.pool(name)
        status = found.get("status", {})
        counts = {status.get(count) for count in ("replicas", "readyReplicas", "updatedReplicas")}
        seen: bool = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and counts == {replicas}

    def ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"

    def pods(self, component: str) -> list[str]:
        """Names of those that are not about to end."""
        found = self.namespace.get("pods", f"--selector=app.kubernetes.io/component={component}")["items"]
        return [each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]]

    def under_load(
        self,
        seconds: float,
        act: Callable[[], None],
        *,
        after: float | None = None,
        rate: float = RATE,
        tokens: int = TOKENS,
    ) -> Fate:
        """What becomes of requests while something is done to the service, and for so long after; None: the rest of the time."""
        folder = self.folder / secrets.token_hex(4)
        with Load(self.cluster, self.url, folder, seconds=seconds, rate=rate, tokens=tokens) as load:
            # What is done before a request was answered hits the start of the load, which is no request.
            eventually(lambda: load.begun, "no answer is recorded", BEGUN_SECONDS)
            act()
            assert load.running, "it took longer than the load: nothing was measured"
            if after is not None:
                time.sleep(after)
                load.end()
        return load.fate()


@contextmanager
def released(
    cluster: Cluster, prefix: str, folder: Path, images: Mapping[str, Any], *, operators: int = 1
) -> Iterator[Released]:
    """A small release in a fresh namespace, and its end; `images` are the chart's values of images."""
    with Namespace(cluster, prefix) as namespace:
        release = Release(cluster, namespace.name)
        redis = images.get("redis", {})
        release.install(
            {
                **images,
                "operator": {"replicas": operators, "resources": SMALL},
                "router": {
                    "config": {"health": {"interval_s": 0.5}, "open_access": {"may_explain": True}},
                    "drain": {"delaySeconds": 2, "graceSeconds": 5},
                    "resources": SMALL,
                },
                "redis": {**redis, "resources": SMALL},
            }
        )
        yield Released(namespace, folder)
        namespace.kubectl("delete", "msvc", "--all", "--timeout=150s", timeout=160)
        eventually(lambda: not namespace.get("ipool")["items"], "a pool stays")
        release.uninstall()
