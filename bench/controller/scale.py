"""Many ModelServices at once, then none that changes, then one after the other; where asked for, one after the other
also while many are created.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from controller import control_plane
from controller.sampling import Sample, sample
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import Operator
from e2e.cluster.operating.scenario import MANAGER, OURS
from pointsman.api.resources import names
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import KubeError
from pointsman.kube.resource import DEPLOYMENTS, INSTANCE_POOLS, MODEL_SERVICES, Key, Object, Resource
from pointsman.kube.store import Change as StoreChange
from pointsman.kube.store import ChangeKind

AT_ONCE = 8
PROGRESS = 250
QUIET_S = 10.0
EARLY = 20
"""ModelServices that are there before the others, where some are changed meanwhile."""
PAUSE_S = 1.0
"""Between two changes meanwhile: enough to see what they wait for, too few to be what is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    services: int
    pools: int
    """Of each."""
    changes: int
    steady_s: float
    meanwhile: bool = False
    """Whether ModelServices that were there before are changed while the others are created."""


@dataclass(frozen=True, slots=True)
class Change:
    """How long one change took, in seconds from the API server's answer to it."""

    to_pool_s: float
    """Until the InstancePool had it."""
    to_instance_s: float
    """Until an instance was made, or began to end."""


@dataclass(slots=True)
class _Awaited:
    replicas: int
    pool: asyncio.Future[float]
    instance: asyncio.Future[float]


class Children:
    """What there is, as an admin watches it."""

    def __init__(self, admin: ApiClient) -> None:
        self._awaited: dict[str, _Awaited] = {}
        self.pools = Cache(admin, INSTANCE_POOLS, _replicas, on_change=self._pool_changed)
        self.deployments = Cache(
            admin, DEPLOYMENTS, _pool_and_end, selector=OURS, on_change=self._deployment_changed
        )

    def awaited(self, pool: str, replicas: int) -> _Awaited:
        loop = asyncio.get_running_loop()
        self._awaited[pool] = _Awaited(replicas, loop.create_future(), loop.create_future())
        return self._awaited[pool]

    def _pool_changed(self, change: StoreChange[int]) -> None:
        waiting = self._awaited.get(change.key.name)
        if waiting is not None and waiting.replicas == change.value:
            _settle(waiting.pool)

    def _deployment_changed(self, change: StoreChange[tuple[str, bool]]) -> None:
        pool, ends = change.value
        waiting = self._awaited.get(pool)
        if waiting is not None and (change.kind is ChangeKind.ADDED or ends):
            _settle(waiting.instance)


async def measure(admin: ApiClient, operator: Operator, cluster: LocalCluster, size: Size) -> dict[str, Any]:
    """Times in seconds. The operator runs; its watches see nothing yet."""
    children = Children(admin)
    tasks = [asyncio.create_task(cache.run()) for cache in (children.pools, children.deployments)]
    try:
        await asyncio.gather(children.pools.synced(), children.deployments.synced())
        assert operator.pid is not None
        if size.meanwhile:
            await _create(admin, children, range(EARLY), size.pools)
            await _settled(operator)
        before, plane_before = await sample(operator.port, operator.pid), control_plane.sample(cluster)
        began_s = time.monotonic()
        meanwhile: list[Change] = []
        if size.meanwhile:
            tasks.append(asyncio.create_task(_meanwhile(admin, children, size, meanwhile)))
        first = EARLY if size.meanwhile else 0
        applied_s, pools_s, deployments_s = await _create(
            admin, children, range(first, size.services), size.pools
        )
        if size.meanwhile:
            tasks.pop().cancel()
        settled_s, settled = await _settled(operator)
        created_s = settled_s - began_s
        plane = control_plane.difference(plane_before, control_plane.sample(cluster), created_s + QUIET_S)
        print(f"settled after {created_s:.0f} s", flush=True)
        results: dict[str, Any] = {
            "services": size.services,
            "pools": size.services * size.pools,
            "applied_s": applied_s - began_s,
            "all_pools_s": pools_s - began_s,
            "all_deployments_s": deployments_s - began_s,
            "settled_s": created_s,
            "creation": _difference(before, settled, created_s),
            "control_plane": plane,
            "steady": await _steady(operator, size.steady_s),
        }
        print("steady: measured", flush=True)
        if meanwhile:
            results["change_while_creating"] = _latencies(meanwhile)
        results["change_when_calm"] = _latencies(await _changes(admin, children, size))
        return results
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _create(
    admin: ApiClient, children: Children, numbers: range, pools: int
) -> tuple[float, float, float]:
    """When the last was applied, and when all InstancePools and all Deployments were there."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await _patiently(admin, MODEL_SERVICES, service(number, pools))

    await asyncio.gather(*(one(number) for number in numbers))
    applied_s = time.monotonic()
    wanted = numbers.stop * pools
    pools_s = await _count(children.pools, wanted)
    return applied_s, pools_s, await _count(children.deployments, wanted)


async def _count(cache: Cache[Any], wanted: int) -> float:
    """When there are so many."""
    changes = cache.changes()
    told = -PROGRESS
    async with aclosing(changes):
        while len(cache) < wanted:
            if len(cache) >= told + PROGRESS:
                told = len(cache)
                print(f"{told} {cache.resource.plural}", flush=True)
            await anext(changes)
    return time.monotonic()


async def _patiently(admin: ApiClient, resource: Resource, obj: Object) -> None:
    while True:
        try:
            await admin.apply(resource, obj, manager=MANAGER)
        except KubeError as error:
            print(f"once more: {error}", flush=True)
            await asyncio.sleep(0.5)
        else:
            return


async def _settled(operator: Operator) -> tuple[float, Sample]:
    """When the operator wrote for the last time, as far as can be told QUIET_S later."""
    assert operator.pid is not None
    last = await sample(operator.port, operator.pid)
    last_s = time.monotonic()
    while time.monotonic() - last_s < QUIET_S:
        await asyncio.sleep(0.5)
        now = await sample(operator.port, operator.pid)
        if now.writes != last.writes:
            last, last_s = now, time.monotonic()
    return last_s, last


async def _steady(operator: Operator, seconds: float) -> dict[str, float]:
    assert operator.pid is not None
    before = await sample(operator.port, operator.pid)
    await asyncio.sleep(seconds)
    return _difference(before, await sample(operator.port, operator.pid), seconds)


async def _changes(admin: ApiClient, children: Children, size: Size) -> list[Change]:
    rng = Random(size.services)
    return [
        await _change(admin, children, rng.randrange(size.services), size.pools) for _ in range(size.changes)
    ]


async def _meanwhile(admin: ApiClient, children: Children, size: Size, found: list[Change]) -> None:
    """Until cancelled."""
    rng = Random(size.services)
    while True:
        found.append(await _change(admin, children, rng.randrange(EARLY), size.pools))
        await asyncio.sleep(PAUSE_S)


async def _change(admin: ApiClient, children: Children, number: int, pools: int) -> Change:
    """One instance more, or one less."""
    key = Key("default", f"svc-{number}-p0")
    replicas = 3 - (children.pools.get(key) or 1)
    awaited = children.awaited(key.name, replicas)
    await _patiently(admin, MODEL_SERVICES, service(number, pools, first=replicas))
    asked_s = time.monotonic()
    return Change(await awaited.pool - asked_s, await awaited.instance - asked_s)


def service(number: int, pools: int, first: int = 1) -> dict[str, Any]:
    name = f"svc-{number}"
    return {
        "apiVersion": MODEL_SERVICES.api_version,
        "kind": MODEL_SERVICES.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"name": name, "source": {"hub": {"id": "some/model"}}},
            "engine": {"type": "simulated"},
            "pools": [
                {
                    "name": f"p{pool}",
                    "replicas": first if pool == 0 else 1,
                    "accelerators": [{"name": "h100"}],
                }
                for pool in range(pools)
            ],
        },
    }


def _replicas(obj: Object) -> int:
    return int(obj["spec"].get("replicas", 0))


def _pool_and_end(obj: Object) -> tuple[str, bool]:
    """Which InstancePool a Deployment is of, and whether it is ending."""
    metadata = obj["metadata"]
    return metadata["labels"][names.INSTANCE_POOL], "deletionTimestamp" in metadata


def _settle(future: asyncio.Future[float]) -> None:
    if not future.done():
        future.set_result(time.monotonic())


def _difference(before: Sample, after: Sample, seconds: float) -> dict[str, float]:
    spent = {name: value - asdict(before)[name] for name, value in asdict(after).items()}
    reconciles = spent["reconciles"]
    return {
        "seconds": seconds,
        "cpu_cores": spent["cpu_s"] / seconds,
        "memory_mib": after.memory_mib,
        "reconciles": reconciles,
        "calls": spent["calls"],
        "writes": spent["writes"],
        "calls_per_reconcile": spent["calls"] / reconciles if reconciles else 0.0,
    }


def _latencies(changes: list[Change]) -> dict[str, dict[str, float]]:
    return {
        "to_pool_s": _quantiles([change.to_pool_s for change in changes]),
        "to_instance_s": _quantiles([change.to_instance_s for change in changes]),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"count": len(ordered), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": ordered[-1]}
