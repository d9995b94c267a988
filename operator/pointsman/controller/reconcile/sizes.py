"""How many instances each InstancePool of a ModelService gets from it, and how far a rollout may surge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.api.resources.pool import RolloutSpec
from pointsman.controller.objects.pools import Member
from pointsman.controller.reconcile.actions import FIELD_MANAGER, Object

REPLICAS = "f:replicas"


@dataclass(frozen=True, slots=True)
class Size:
    """Of one InstancePool."""

    member: Member
    live: Object | None
    wanted: int
    """Instances there are or will be, whoever decides."""
    applied: int | None
    """What this operator writes; None: somebody else does."""
    cut: bool
    """The budget allows fewer than the spec asks for."""
    rollout: RolloutSpec


def others_scale(pool: Object) -> str | None:
    """The field manager other than this operator that has written the pool's replicas last: `kubectl scale`, an
    autoscaler, the planner. None where there is none.
    """
    for entry in pool["metadata"].get("managedFields", ()):
        written = entry.get("fieldsV1", {}).get("f:spec", {})
        if REPLICAS in written and entry.get("manager") != FIELD_MANAGER:
            return str(entry.get("manager") or "somebody")
    return None


def sizes(spec: ModelServiceSpec, members: Sequence[Member], pools: Mapping[str, Object]) -> list[Size]:
    """In the order of the members. The budget is spent in this order: first on what runs, then on surging."""
    budget = dict(spec.budget.accelerators) if spec.budget is not None else {}
    planned = []
    for member in members:
        live = pools.get(member.name)
        asked, ours = _asked(member, live)
        granted = asked
        room = budget.get(member.shape.resource)
        if room is not None and member.accelerators:
            if ours:
                granted = min(asked, room // member.accelerators)
            budget[member.shape.resource] = max(0, room - granted * member.accelerators)
        planned.append((member, live, granted, ours, granted < asked))
    found = []
    for member, live, granted, ours, cut in planned:
        surge = spec.rollout.max_surge
        room = budget.get(member.shape.resource)
        if room is not None and member.accelerators:
            surge = min(surge, room // member.accelerators)
            budget[member.shape.resource] = room - surge * member.accelerators
        # Nothing may surge: in place then, or nothing would ever change.
        unavailable = max(spec.rollout.max_unavailable, 0 if surge else 1)
        rollout = spec.rollout.model_copy(update={"max_surge": surge, "max_unavailable": unavailable})
        found.append(Size(member, live, granted, granted if ours else None, cut, rollout))
    return found


def _asked(member: Member, live: Object | None) -> tuple[int, bool]:
    """How many instances there should be, and whether this operator is the one who says so."""
    if live is None:
        return member.initial_replicas, True
    there_are = int(live.get("spec", {}).get("replicas", 1))
    if others_scale(live) is not None:
        return there_are, False
    # With autoscaling the number stays what it is, and stays this operator's until somebody else writes it: a field that
    # nobody owns would be gone.
    return (there_are if member.pool.autoscaling is not None else member.initial_replicas), True
