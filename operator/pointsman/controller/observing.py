"""What the operator knows of the cluster: one cache per kind, and what of it one reconcile is shown."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from pointsman.api.resources import names
from pointsman.controller.index import ByParent
from pointsman.controller.items import (
    Item,
    Kind,
    Want,
    concerned_by_child,
    concerned_by_pool,
    concerned_by_service,
    pool_of,
    service_of,
)
from pointsman.controller.reconcile.observed import ClusterFacts, ObservedPool, ObservedService, RouterReport
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing
from pointsman.kube.resource import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    ENGINE_PROFILES,
    INSTANCE_POOLS,
    LEADER_WORKER_SETS,
    MODEL_SERVICES,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    Key,
    Object,
    Resource,
)
from pointsman.kube.store import Change

CHILDREN = (DEPLOYMENTS, LEADER_WORKER_SETS, CONTROLLER_REVISIONS, CONFIG_MAPS, POD_DISRUPTION_BUDGETS)
OURS = f"{names.MANAGED_BY}={names.MANAGER}"
ENGINE_PODS = f"{OURS},{names.INSTANCE_POOL}"
SELECTORS = dict.fromkeys((*CHILDREN, NETWORK_POLICIES), OURS) | {PODS: ENGINE_PODS}


class Observer:
    """Caches of everything that reconciling looks at. `wanted` is called with whatever a change concerns; `told` is what
    this replica was started with.
    """

    def __init__(
        self,
        client: ApiClient,
        wanted: Callable[[Want], None],
        *,
        namespaces: Sequence[str],
        told: ClusterFacts,
        timing: Timing,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self._wanted = wanted
        self._told = told
        self._timing = timing
        self.reports: tuple[RouterReport, ...] | None = None
        """What routers said of themselves; None while nobody asked them."""
        self.refusals: dict[Item, str] = {}
        children = (*CHILDREN, NETWORK_POLICIES) if told.engine_peers else CHILDREN
        self._of_pool = {resource: ByParent(pool_of) for resource in (*children, PODS)}
        self._pools_of = ByParent(service_of)

        def cache(
            resource: Resource,
            parse: Callable[[Object], Object],
            *listeners: Callable[[Change[Object]], None],
        ) -> Cache[Object]:
            made = Cache(
                client,
                resource,
                parse,
                namespaces=namespaces,
                selector=SELECTORS.get(resource, ""),
                timing=timing,
                optional=resource is LEADER_WORKER_SETS,
                clock=clock,
                rng=rng,
            )
            for listener in listeners:
                made.subscribe(listener)
            return made

        self.caches: dict[Resource, Cache[Object]] = {
            MODEL_SERVICES: cache(MODEL_SERVICES, without_managed_fields, self._service_changed),
            # Whole: who has scaled a pool is in its managed fields.
            INSTANCE_POOLS: cache(INSTANCE_POOLS, dict, self._pools_of.take, self._pool_changed),
            ENGINE_PROFILES: cache(ENGINE_PROFILES, without_managed_fields, self._profile_changed),
            PODS: cache(PODS, status_of_pod, self._of_pool[PODS].take, self._child_changed),
        } | {
            resource: cache(
                resource, without_managed_fields, self._of_pool[resource].take, self._child_changed
            )
            for resource in children
        }

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for cache in self.caches.values():
                tasks.create_task(cache.run())

    async def synced(self) -> None:
        for cache in self.caches.values():
            await cache.synced()

    @property
    def is_synced(self) -> bool:
        return all(cache.is_synced for cache in self.caches.values())

    def stale(self, now_s: float) -> str:
        """Which kinds were not heard of for longer than a watch may be silent; empty while all is well.

        Nothing is reconciled then: it would be decided on how things were.
        """
        limit_s = 2 * self._timing.idle_s
        return ", ".join(
            resource.plural
            for resource, cache in self.caches.items()
            if cache.age_s(now_s) > limit_s + (0.0 if cache.is_installed else self._timing.relist_s)
        )

    def learn(self, resource: Resource, obj: Object) -> None:
        """The answer to a write of our own, so that the next reconcile sees what this one did."""
        cache = self.caches.get(resource)
        if cache is not None:
            cache.learn(obj)

    def everything(self) -> Iterator[Item]:
        for kind, resource in ((Kind.SERVICE, MODEL_SERVICES), (Kind.POOL, INSTANCE_POOLS)):
            for key in self.caches[resource].keys():  # noqa: SIM118 - a cache is no mapping
                yield Item(kind, key)

    def gather(self, item: Item) -> ObservedService | ObservedPool | None:
        """What one reconcile is shown; None where the object is gone."""
        if item.kind is Kind.SERVICE:
            return self._service(item)
        return self._pool(item)

    @property
    def facts(self) -> ClusterFacts:
        return replace(self._told, leader_worker_sets=self.caches[LEADER_WORKER_SETS].is_installed)

    def _service(self, item: Item) -> ObservedService | None:
        service = self.caches[MODEL_SERVICES].get(item.key)
        if service is None:
            return None
        return ObservedService(
            service,
            pools=self._pools_of.of(item.key),
            profiles=self._profiles(),
            routers=self.reports,
            refused=self.refusals.get(item, ""),
            facts=self.facts,
        )

    def _pool(self, item: Item) -> ObservedPool | None:
        pool = self.caches[INSTANCE_POOLS].get(item.key)
        if pool is None:
            return None
        children = {resource: index.of(item.key) for resource, index in self._of_pool.items()}
        return ObservedPool(
            pool,
            workloads=(*children[DEPLOYMENTS], *children[LEADER_WORKER_SETS]),
            pods=children[PODS],
            revisions=children[CONTROLLER_REVISIONS],
            config_maps=children[CONFIG_MAPS],
            disruption_budgets=children[POD_DISRUPTION_BUDGETS],
            network_policies=children.get(NETWORK_POLICIES, ()),
            profiles=self._profiles(),
            refused=self.refusals.get(item, ""),
            facts=self.facts,
        )

    def _profiles(self) -> tuple[Object, ...]:
        return tuple(profile for _, profile in sorted(self.caches[ENGINE_PROFILES].items(), key=_by_key))

    def _service_changed(self, change: Change[Object]) -> None:
        self._tell(concerned_by_service(change))

    def _pool_changed(self, change: Change[Object]) -> None:
        self._tell(concerned_by_pool(change))

    def _child_changed(self, change: Change[Object]) -> None:
        self._tell(concerned_by_child(change.value))
        if change.before is not None:
            self._tell(concerned_by_child(change.before))

    def _profile_changed(self, _: Change[Object]) -> None:
        self._tell(map(Want, self.everything()))

    def _tell(self, wants: Iterator[Want]) -> None:
        for want in wants:
            self._wanted(want)


def dead_of(caches: Iterable[Cache[Any]], timing: Timing, now_s: float) -> str:
    """Which watches have neither heard nor tried anything for so long that they must have died; empty for none."""
    limit_s = timing.relist_s + 2 * (timing.idle_s + timing.list_timeout_s + timing.last_retry_s)
    return ", ".join(cache.resource.plural for cache in caches if cache.idle_s(now_s) > limit_s)


def without_managed_fields(obj: Object) -> Object:
    """Up to half of an object's size, and nothing is decided by it but who has scaled a pool."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def status_of_pod(obj: Object) -> Object:
    """A pod as far as anything is decided by it: how it is, and not what it is made of, which its workload says, too."""
    kept = {name: value for name, value in obj.items() if name not in {"spec", "status"}}
    status = obj.get("status", {})
    told = {name: status[name] for name in ("conditions", "containerStatuses") if name in status}
    return without_managed_fields({**kept, "status": told})


def _by_key(entry: tuple[Key, Object]) -> Key:
    return entry[0]
