"""A ModelService: its InstancePools, and what can be said of it."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import ValidationError

from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.api.resources.pool import AcceleratorSpec
from pointsman.controller.objects.meta import pool_name
from pointsman.controller.objects.pools import Member, instance_pool, members
from pointsman.controller.reconcile.actions import Action, Apply, Delete, Event, Object, Ref, Requeue
from pointsman.controller.reconcile.contained import contains, up_to_date
from pointsman.controller.reconcile.observed import ObservedService
from pointsman.controller.reconcile.pool_status import invalid_spec, reference
from pointsman.controller.reconcile.profiles import matching_profile
from pointsman.controller.reconcile.service_status import ServiceView, service_status
from pointsman.controller.reconcile.sizes import Size, sizes
from pointsman.controller.reconcile.times import seconds


def reconcile_service(observed: ObservedService, now: float) -> list[Action]:
    """Everything to be done now. Empty when all is as it should be."""
    service = observed.service
    if service["metadata"].get("deletionTimestamp"):
        return []
    try:
        spec = ModelServiceSpec.from_wire(service.get("spec", {}))
    except ValidationError as error:
        return invalid_spec(service, error, now)
    own, foreign = _pools(observed)
    name = service["metadata"]["name"]
    wanted, clashing = _as_called(members(name, spec), own, name)
    planned = [size for size in sizes(spec, wanted, own) if size.member.name not in foreign]
    actions: list[Action] = []
    for size in planned:
        actions += _pool_actions(observed, spec, size)
    made = [size for size in planned if size.live is None]
    if made:
        told = ", ".join(f"{size.member.name} with {size.wanted} instances" for size in made)
        actions.append(Event(reference(service), "Normal", "PoolsCreated", told))
    keep = {member.name for member in wanted}
    removed = [pool for name, pool in sorted(own.items()) if name not in keep]
    leaving, wait_s = _leaving(removed, planned, own, spec, now)
    actions += leaving
    view = ServiceView(
        service, spec, planned, own, tuple(sorted(foreign & keep | clashing)), removed, observed
    )
    # Pools that are made now say something of themselves in a moment; unless they are refused.
    if observed.refused or not made:
        actions += service_status(view, now)
    if wait_s is not None:
        actions.append(Requeue(wait_s))
    return actions


def _as_called(found: list[Member], own: Mapping[str, Object], service: str) -> tuple[list[Member], set[str]]:
    """Each member as the InstancePool that there is for it is called, and names that none could be given besides.

    What an InstancePool is of cannot be changed. So one that is not what is wanted now keeps its name until it has gone, and
    what replaces it is called otherwise; a pool that gets a second shape keeps the instances of its first.
    """
    there_are = {_unchangeable(pool["spec"]): name for name, pool in own.items()}
    taken = set(own)
    called: list[Member] = []
    refused: set[str] = set()
    for member in found:
        longer = pool_name(service, member.pool.name, member.shape.name)
        free = (name for name in (member.name, longer) if name not in taken)
        key = (member.pool.name, member.pool.role.value, *_shape(member.shape))
        name = there_are.get(key) or next(free, None)
        if name is None:
            refused.add(longer)
        else:
            taken.add(name)
            called.append(replace(member, name=name))
    return called, refused


def _unchangeable(spec: Object) -> tuple[object, ...]:
    try:
        shape = _shape(AcceleratorSpec.from_wire(spec.get("accelerator", {})))
    except ValidationError:
        shape = ()
    return (spec.get("pool"), spec.get("role"), *shape)


def _shape(shape: AcceleratorSpec) -> tuple[object, ...]:
    return shape.name, shape.resource, shape.count, tuple(sorted((shape.node_selector or {}).items()))


def _pools(observed: ObservedService) -> tuple[dict[str, Object], set[str]]:
    """The service's own pools by name, and names that belong to others."""
    uid = observed.service["metadata"]["uid"]
    own: dict[str, Object] = {}
    foreign = set()
    for pool in observed.pools:
        meta = pool["metadata"]
        controllers = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
        # One that is being deleted is on its way, whosever it is: its name is free when it has gone.
        if meta.get("deletionTimestamp") or (controllers and uid not in controllers):
            foreign.add(str(meta["name"]))
        else:
            own[str(meta["name"])] = pool
    return own, foreign


def _pool_actions(observed: ObservedService, spec: ModelServiceSpec, size: Size) -> list[Action]:
    profile = size.member.shape.profile or matching_profile(spec, size.member, observed.profiles)
    wanted = instance_pool(observed.service, spec, size.member, size.rollout, profile, None)
    live = size.live
    if live is None:
        return [Apply(_with_replicas(wanted, size.applied or 0, None), "created")]
    if size.applied is None:
        return [] if up_to_date(live, wanted) else [Apply(wanted, "changed or drifted")]
    if up_to_date(live, wanted) and contains(live["spec"].get("replicas"), size.applied):
        return []
    # Not over a number that somebody has written in the meantime: the API server refuses, and the next pass knows better.
    version = live["metadata"].get("resourceVersion")
    return [Apply(_with_replicas(wanted, size.applied, version), "changed or drifted")]


def _with_replicas(pool: Object, replicas: int, version: str | None) -> Object:
    meta = pool["metadata"] if version is None else {**pool["metadata"], "resourceVersion": version}
    return {**pool, "metadata": meta, "spec": {**pool["spec"], "replicas": replicas}}


def _leaving(
    removed: list[Object], planned: list[Size], own: Mapping[str, Object], spec: ModelServiceSpec, now: float
) -> tuple[list[Action], float | None]:
    """Pools that the spec no longer names go when those that it names serve, or have had their time: what replaces a pool
    is up before the pool is gone, and a cluster without room for both does not wait for ever.
    """
    if not removed:
        return [], None
    idle = [size for size in planned if size.wanted and not _serves(own.get(size.member.name))]
    newest = max((_created(own.get(size.member.name), now) for size in idle), default=0.0)
    left = newest + spec.rollout.progress_deadline_seconds - now
    if idle and left > 0:
        return [], left
    return [
        Delete(Ref.of(pool), pool["metadata"]["uid"], "no longer in the ModelService", "Foreground")
        for pool in removed
    ], None


def _serves(pool: Object | None) -> bool:
    return pool is not None and pool.get("status", {}).get("readyReplicas", 0) > 0


def _created(pool: Object | None, now: float) -> float:
    return now if pool is None else seconds(pool["metadata"].get("creationTimestamp"))
