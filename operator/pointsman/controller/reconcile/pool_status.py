"""What an InstancePool's status says, and which events people get to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pointsman.api.resources import names
from pointsman.api.resources.conditions import ConditionType
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.reconcile.actions import Action, Event, Object, PatchStatus, Ref
from pointsman.controller.reconcile.change import Change
from pointsman.controller.reconcile.conditions import Verdict, as_conditions
from pointsman.controller.reconcile.instances import Instance, Seen
from pointsman.controller.reconcile.revisions import History
from pointsman.controller.reconcile.wishes import Wish


@dataclass(frozen=True, slots=True)
class PoolView:
    """All that a status follows from."""

    pool: Object
    spec: InstancePoolSpec
    seen: Seen
    history: History
    change: Change
    wish: Wish
    refused: str
    made: Sequence[str]
    removed: Sequence[Instance]

    @property
    def ready(self) -> int:
        return sum(instance.ready for instance in self.seen.live)

    @property
    def updated(self) -> int:
        return sum(instance.revision == self.change.desired for instance in self.seen.live)


def reference(found: Object) -> dict[str, Any]:
    """What an event is about."""
    meta = found["metadata"]
    about = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {**about, "namespace": meta["namespace"]} if "namespace" in meta else about


def status_of(view: PoolView, now: float) -> list[Action]:
    """A patch, where the status is not what it should be."""
    generation = view.pool["metadata"].get("generation", 0)
    before = view.pool.get("status", {})
    verdicts = (_ready(view), view.wish.profile, _limited(view), _degraded(view))
    selector = {names.INSTANCE_POOL: view.pool["metadata"]["name"], names.COMPONENT: names.ENGINE_COMPONENT}
    status = {
        "observedGeneration": generation,
        "replicas": len(view.seen.live),
        "readyReplicas": view.ready,
        "updatedReplicas": view.updated,
        "selector": ",".join(f"{key}={value}" for key, value in selector.items()),
        "currentRevision": view.change.stable,
        "updateRevision": view.change.desired,
        "failedRevision": view.change.failed,
        "conditions": as_conditions(verdicts, before.get("conditions", ()), generation, now),
    }
    return patch(view.pool, status)


def patch(found: Object, status: Object) -> list[Action]:
    """Only where something differs; conditions are compared as a whole, times included, which change with the status."""
    before = found.get("status", {})
    if all(before.get(name) == value for name, value in status.items()):
        return []
    return [PatchStatus(Ref.of(found), found["metadata"]["uid"], status)]


def invalid_spec(found: Object, error: ValidationError, now: float) -> list[Action]:
    """Something the API server let pass that this operator cannot read: another version's, or its schema's fault."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = f"spec.{where}: {fault['msg']}. Nothing is changed until it is put right"
    generation = found["metadata"].get("generation", 0)
    before = found.get("status", {}).get("conditions", ())
    kept = [
        Verdict(ConditionType(c["type"]), c["status"], c["reason"], c.get("message", ""))
        for c in before
        if c["type"] in set(ConditionType) and c["type"] != ConditionType.DEGRADED
    ]
    verdicts = [*kept, Verdict(ConditionType.DEGRADED, "True", "SpecInvalid", message)]
    conditions = as_conditions(verdicts, before, generation, now)
    return patch(found, {"observedGeneration": generation, "conditions": conditions})


def _ready(view: PoolView) -> Verdict:
    wanted = view.spec.replicas
    count = f"{view.ready} of {wanted} instances serve"
    if wanted == 0:
        return Verdict(ConditionType.READY, "True", "ScaledToZero", "no instance is wanted")
    rolling = f"; {view.updated} of {len(view.seen.live)} are as the spec says" if view.change.old else ""
    if view.ready >= wanted:
        reason = "RollingOut" if view.change.old else "Serving"
        return Verdict(ConditionType.READY, "True", reason, count + rolling)
    unready = [instance for instance in view.seen.live if not instance.ready]
    if view.wish.problem is not None and not view.seen.live:
        return Verdict(ConditionType.READY, "False", view.wish.problem.reason, view.wish.problem.message)
    for instance in unready:
        if instance.trouble:
            told = f"{count}; {instance.name}: {instance.trouble}"
            return Verdict(ConditionType.READY, "False", "InstancesFailing", told)
    for instance in unready:
        if instance.unschedulable:
            told = f"{count}; {instance.name}: {instance.unschedulable}"
            return Verdict(ConditionType.READY, "False", "Unschedulable", told)
    return Verdict(ConditionType.READY, "False", "InstancesStarting", count + rolling)


def _limited(view: PoolView) -> Verdict:
    for instance in view.seen.live:
        if instance.unschedulable and not instance.ready:
            told = f"no node takes {instance.name}: {instance.unschedulable}"
            return Verdict(ConditionType.SCALING_LIMITED, "True", "Unschedulable", told)
    return Verdict(ConditionType.SCALING_LIMITED, "False", "NotLimited", "every instance has a node")


def _degraded(view: PoolView) -> Verdict:
    degraded = ConditionType.DEGRADED
    change = view.change
    if view.refused:
        return Verdict(
            degraded, "True", "Refused", f"the API server refused what the spec asks for: {view.refused}"
        )
    if view.wish.problem is not None:
        return view.wish.problem
    if change.failed:
        kept = view.history.revisions.get(change.failed)
        why = change.failed_now or (kept.failed_because if kept is not None else "")
        message = (
            f"the change to revision {change.failed} was halted and rolled back to {change.stable}: {why}."
            " Change the spec to try again"
        )
        return Verdict(degraded, "True", "RolledBack", message)
    if change.late:
        message = f"no progress for {view.spec.rollout.progress_deadline_seconds} s, and no revision that worked to go back to"
        return Verdict(degraded, "True", "ProgressDeadlineExceeded", message)
    for instance in view.seen.live:
        if instance.trouble and not instance.ready:
            return Verdict(degraded, "True", "InstancesFailing", f"{instance.name}: {instance.trouble}")
    if view.spec.rollout.paused and any(i.revision != change.desired for i in view.seen.live):
        return Verdict(degraded, "False", "Paused", "a change waits: rollout.paused is set")
    return Verdict(degraded, "False", "AsExpected", "nothing is wrong")


def pool_events(view: PoolView) -> list[Action]:
    """What happened in this pass, for whoever describes the pool."""
    about = reference(view.pool)
    events: list[Action] = []
    if view.change.failed_now:
        message = (
            f"revision {view.change.failed} is given up ({view.change.failed_now});"
            f" going back to {view.change.stable}"
        )
        events.append(Event(about, "Warning", "RolledBack", message))
    if view.change.proven_now and len(view.history.revisions) > 1:  # the first one rolls nothing out
        events.append(
            Event(
                about,
                "Normal",
                "RolledOut",
                f"every instance is of revision {view.change.desired} and serves",
            )
        )
    if view.made:
        events.append(Event(about, "Normal", "InstancesCreated", ", ".join(view.made)))
    if view.removed:
        removed = ", ".join(instance.name for instance in view.removed)
        events.append(Event(about, "Normal", "InstancesRemoved", f"draining and removing {removed}"))
    return events
