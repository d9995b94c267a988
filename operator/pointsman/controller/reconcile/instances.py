"""Instances as they were seen: each child workload with its pods."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources import names
from pointsman.controller.objects.meta import REVISION
from pointsman.controller.reconcile.actions import Object
from pointsman.controller.reconcile.observed import ObservedPool
from pointsman.controller.reconcile.times import seconds

REMOVE_FIRST = f"{names.GROUP}/remove-first"
"""Annotation of a workload, any value: this instance is the first to go when the pool shrinks."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of the pool; those that are ending are not among them."""

    workload: Object
    name: str
    uid: str
    revision: str
    created_s: float
    ready: bool
    ready_since_s: float
    """0.0 where it is not."""
    running: int
    remove_first: bool
    orphan: bool
    """Nobody owns it: the pool was deleted and its instances kept."""
    unschedulable: str = ""
    """Why no node takes it."""
    trouble: str = ""
    """Why a container of it does not run."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All instances of a pool."""

    live: tuple[Instance, ...]
    ending: tuple[str, ...]
    """Names of those that are ending."""
    ending_until_s: float
    """When the last of the pods that end must have ended; 0.0 where none ends."""
    taken: frozenset[str]
    """Names that something has or had a moment ago."""
    used_revisions: frozenset[str]


def instances_of(observed: ObservedPool) -> Seen:
    """Instances that are the pool's own or nobody's."""
    pool_uid = observed.pool["metadata"]["uid"]
    pods: dict[str, list[Object]] = {}
    for pod in observed.pods:
        pods.setdefault(pod["metadata"].get("labels", {}).get(names.INSTANCE, ""), []).append(pod)
    live = []
    ending = []
    for workload in sorted(observed.workloads, key=lambda found: str(found["metadata"]["name"])):
        meta = workload["metadata"]
        controllers = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
        if controllers and pool_uid not in controllers:
            continue
        if meta.get("deletionTimestamp"):
            ending.append(str(meta["name"]))
        else:
            running = observed.running.get(meta["name"], 0)
            live.append(_instance(workload, pods.get(meta["name"], ()), running, orphan=not controllers))
    workloads = {str(workload["metadata"]["name"]) for workload in observed.workloads}
    return Seen(
        live=tuple(live),
        ending=tuple(ending),
        ending_until_s=max(
            (seconds(pod["metadata"].get("deletionTimestamp")) for pod in observed.pods), default=0.0
        ),
        taken=frozenset(workloads | pods.keys()),
        used_revisions=frozenset(
            str(found["metadata"].get("labels", {}).get(REVISION, ""))
            for found in (*observed.workloads, *observed.pods)
        ),
    )


def _instance(workload: Object, pods: Iterable[Object], running: int, *, orphan: bool) -> Instance:
    meta = workload["metadata"]
    standing = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    leaders = [
        pod
        for pod in standing
        if pod["metadata"].get("labels", {}).get(names.COMPONENT) == names.ENGINE_COMPONENT
    ]
    ready_since = max((_ready_since(pod) for pod in leaders), default=0.0)
    if workload["kind"] == "LeaderWorkerSet" and workload.get("status", {}).get("readyReplicas", 0) < 1:
        ready_since = 0.0
    return Instance(
        workload=workload,
        name=meta["name"],
        uid=meta["uid"],
        revision=meta.get("labels", {}).get(REVISION, ""),
        created_s=seconds(meta.get("creationTimestamp")),
        ready=ready_since > 0.0,
        ready_since_s=ready_since,
        running=running,
        remove_first=REMOVE_FIRST in meta.get("annotations", {}),
        orphan=orphan,
        unschedulable=next(filter(None, map(_unschedulable, standing)), ""),
        trouble=next(filter(None, map(_trouble, standing)), ""),
    )


def _conditions(pod: Object) -> Mapping[str, Mapping[str, Any]]:
    return {found["type"]: found for found in pod.get("status", {}).get("conditions", ())}


def _ready_since(pod: Object) -> float:
    """Since when the pod is ready; 0.0 where it is not."""
    ready = _conditions(pod).get("Ready", {})
    if ready.get("status") != "True":
        return 0.0
    return (
        seconds(ready.get("lastTransitionTime")) or seconds(pod["metadata"].get("creationTimestamp")) or 1.0
    )


def _unschedulable(pod: Object) -> str:
    scheduled = _conditions(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return str(scheduled.get("message") or "no node takes it")
    return ""


def _trouble(pod: Object) -> str:
    """In words that stay the same while the kubelet tries again and again: every change would be written to the status."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        if container.get("ready"):
            continue
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
            "terminated"
        )
        if ended:
            return f"container {container['name']} keeps ending, with exit code {ended.get('exitCode')}"
        if reason in {"ErrImagePull", "ImagePullBackOff"}:
            return f"image {container.get('image')} cannot be pulled"
        if reason not in {"", "ContainerCreating", "PodInitializing"}:
            return f"{reason}: {waiting.get('message', '')}".rstrip(": ")
    return ""
