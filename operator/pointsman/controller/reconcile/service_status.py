"""What a ModelService's status says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources.conditions import ConditionType
from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.controller.reconcile.actions import Action, Object
from pointsman.controller.reconcile.conditions import Verdict, as_conditions, condition_of
from pointsman.controller.reconcile.observed import ObservedService
from pointsman.controller.reconcile.pool_status import patch
from pointsman.controller.reconcile.sizes import Size, others_scale
from pointsman.controller.reconcile.times import seconds, text

LIVE_PERIOD_S = 30.0
SLO_GOAL = 0.95


@dataclass(frozen=True, slots=True)
class ServiceView:
    """All that a status follows from."""

    service: Object
    spec: ModelServiceSpec
    sizes: Sequence[Size]
    pools: Mapping[str, Object]
    taken: Sequence[str]
    """Names of pools that cannot be made, because others have them or they are still ending."""
    leaving: Sequence[Object]
    observed: ObservedService

    def status(self, size: Size) -> Mapping[str, Any]:
        """What the InstancePool says of itself."""
        found: Mapping[str, Any] = self.pools.get(size.member.name, {}).get("status", {})
        return found

    def told(self, kind: ConditionType) -> list[tuple[str, Mapping[str, Any]]]:
        """This condition of every pool that has it, with the pool's name."""
        found = (
            (s.member.name, condition_of(self.status(s).get("conditions", ()), kind)) for s in self.sizes
        )
        return [(name, condition) for name, condition in found if condition]


def service_status(view: ServiceView, now: float) -> list[Action]:
    """A patch, where the status is not what it should be."""
    generation = view.service["metadata"].get("generation", 0)
    before = view.service.get("status", {})
    pools = _pools(view)
    ready = sum(pool["readyReplicas"] for pool in pools)
    desired = sum(pool["desiredReplicas"] for pool in pools)
    pools_ready = _pools_ready(view)
    router = _router_ready(view)
    verdicts = (
        _ready(view, router),
        pools_ready,
        router,
        _of_pools(
            view,
            ConditionType.PROFILE_RESOLVED,
            ("True", "Resolved", "every profile that is named exists and fits"),
        ),
        _slo(view),
        _limited(view),
        _degraded(view),
    )
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "pools": pools,
        "replicas": sum(pool["replicas"] for pool in pools),
        "readyReplicas": ready,
        "desiredReplicas": desired,
        "ready": f"{ready}/{desired}",
        **_live(view, now),
        "conditions": as_conditions(verdicts, before.get("conditions", ()), generation, now),
    }
    return patch(view.service, status)


def _pools(view: ServiceView) -> list[dict[str, Any]]:
    """By the pools of the spec; shapes of one are summed."""
    found: dict[str, dict[str, Any]] = {}
    for size in view.sizes:
        member = size.member
        entry = found.setdefault(
            member.pool.name,
            {
                "name": member.pool.name,
                "role": member.pool.role.value,
                "replicas": 0,
                "readyReplicas": 0,
                "updatedReplicas": 0,
                "desiredReplicas": 0,
            },
        )
        for name in ("replicas", "readyReplicas", "updatedReplicas"):
            entry[name] += view.status(size).get(name, 0)
        entry["desiredReplicas"] += size.wanted
    return list(found.values())


def _pools_ready(view: ServiceView) -> Verdict:
    kind = ConditionType.POOLS_READY
    for size in view.sizes:
        status = view.status(size)
        generation = view.pools.get(size.member.name, {}).get("metadata", {}).get("generation")
        if generation is None or status.get("observedGeneration") != generation:
            return Verdict(
                kind, "False", "PoolsChanging", f"{size.member.name} has just been made or changed"
            )
        told = condition_of(status.get("conditions", ()), ConditionType.READY)
        if told.get("status") != "True":
            reason = told.get("reason") or "PoolsChanging"
            return Verdict(
                kind, "False", reason, f"{size.member.name}: {told.get('message', 'says nothing yet')}"
            )
    return Verdict(kind, "True", "AllReady", "every pool has as many instances that serve as it should")


def _router_ready(view: ServiceView) -> Verdict:
    kind = ConditionType.ROUTER_READY
    meta = view.service["metadata"]
    name, generation = f"{meta['namespace']}/{meta['name']}", meta.get("generation", 0)
    reports = view.observed.routers
    if reports is None:
        return Verdict(kind, "Unknown", "RoutersNotAsked", "no router has been asked yet")
    if not reports:
        return Verdict(
            kind, "False", "NoRouter", "no router runs in this release: install the chart with a router"
        )
    loaded = [report.pod for report in reports if report.generations.get(name, -1) >= generation]
    if loaded:
        return Verdict(kind, "True", "Loaded", "a router has loaded this generation")
    if any(name in report.generations for report in reports):
        return Verdict(kind, "False", "GenerationNotLoaded", "routers still serve an earlier generation")
    return Verdict(kind, "False", "NotLoaded", "no router knows this ModelService")


def _ready(view: ServiceView, router: Verdict) -> Verdict:
    """Requests are served: each pool has an instance that does, unless none is wanted, and a router knows the model."""
    kind = ConditionType.READY
    lacking = [s.member.name for s in view.sizes if s.wanted and not view.status(s).get("readyReplicas", 0)]
    if view.taken:
        return Verdict(kind, "False", "PoolNameTaken", f"names are taken: {', '.join(view.taken)}")
    if lacking:
        return Verdict(kind, "False", "PoolsNotReady", f"no instance serves in {', '.join(lacking)}")
    if router.status != "True":
        return Verdict(kind, router.status, router.reason, router.message)
    return Verdict(kind, "True", "Serving", "requests are served")


def _slo(view: ServiceView) -> Verdict:
    kind = ConditionType.SLO_ATTAINED
    live = view.observed.live
    if live is None:
        return Verdict(
            kind,
            "Unknown",
            "NoLiveFigures",
            "nothing tells how requests fare: no shared state feeds this yet",
        )
    met = live.slo_attainment >= SLO_GOAL
    goal = f"{SLO_GOAL:.0%} of recent requests within their limits"
    return Verdict(kind, "True" if met else "False", "Attained" if met else "Missed", f"the goal is {goal}")


def _live(view: ServiceView, now: float) -> dict[str, Any]:
    """Figures of live traffic, no more often than every 30 s."""
    live = view.observed.live
    written = seconds(view.service.get("status", {}).get("lastLiveUpdate"))
    if live is None or now - written < LIVE_PERIOD_S:
        return {}
    share = f"{live.slo_attainment:.1%}"
    if view.service.get("status", {}).get("sloAttainment") == share:
        return {}
    return {"sloAttainment": share, "lastLiveUpdate": text(now)}


def _of_pools(view: ServiceView, kind: ConditionType, good: tuple[Any, str, str]) -> Verdict:
    """The first pool that deviates speaks for all."""
    for name, told in view.told(kind):
        if told["status"] != good[0]:
            return Verdict(kind, told["status"], told["reason"], f"{name}: {told.get('message', '')}")
    if not view.told(kind):
        return Verdict(kind, "Unknown", "PoolsChanging", "no pool says so yet")
    return Verdict(kind, *good)


def _limited(view: ServiceView) -> Verdict:
    cut = [size for size in view.sizes if size.cut]
    if cut:
        told = ", ".join(f"{size.member.name} gets {size.wanted}" for size in cut)
        return Verdict(
            ConditionType.SCALING_LIMITED, "True", "Budget", f"budget.accelerators allows no more: {told}"
        )
    return _of_pools(
        view, ConditionType.SCALING_LIMITED, ("False", "NotLimited", "every pool has the size it should")
    )


def _degraded(view: ServiceView) -> Verdict:
    kind = ConditionType.DEGRADED
    if view.observed.refused:
        return Verdict(
            kind, "True", "Refused", f"the API server refused what the spec asks for: {view.observed.refused}"
        )
    if view.taken:
        message = f"InstancePools of these names belong to others, are still ending, or are asked for twice: {', '.join(view.taken)}"
        return Verdict(kind, "True", "PoolNameTaken", message)
    bad = _of_pools(view, kind, ("False", "AsExpected", "nothing is wrong"))
    if bad.status == "True":
        return bad
    for size in view.sizes:
        scaler = others_scale(size.live) if size.live is not None else None
        if scaler is not None and size.member.pool.replicas not in {None, size.wanted}:
            message = f"replicas of {size.member.name} are {size.wanted}, set by {scaler}; the spec's number is not applied"
            return Verdict(kind, "False", "ScaledByOthers", message)
    if view.leaving:
        names = ", ".join(str(pool["metadata"]["name"]) for pool in view.leaving)
        return Verdict(kind, "False", "PoolsLeaving", f"{names} goes when the other pools serve")
    return bad
