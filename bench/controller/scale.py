"""Many ModelServices at once, then none that changes, then one after the other."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from controller.sampling import Sample, sample
from e2e.cluster.operating.operator import Operator
from e2e.cluster.operating.scenario import MANAGER, OURS
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import KubeError
from pointsman.kube.resource import DEPLOYMENTS, INSTANCE_POOLS, MODEL_SERVICES, Key, Object, Resource
from pointsman.kube.store import Change

AT_ONCE = 8
PROGRESS = 250
QUIET_S = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    services: int
    pools: int
    """Of each."""
    changes: int
    steady_s: float


class Children:
    """What there is, as an admin watches it."""

    def __init__(self, admin: ApiClient) -> None:
        self.waiting: dict[Key, tuple[int, asyncio.Future[float]]] = {}
        self.pools = Cache(admin, INSTANCE_POOLS, _replicas, on_change=self._changed)
        self.deployments = Cache(admin, DEPLOYMENTS, _replicas, selector=OURS)

    def _changed(self, change: Change[int]) -> None:
        waiting = self.waiting.get(change.key)
        if waiting is not None and waiting[0] == change.value and not waiting[1].done():
            waiting[1].set_result(time.monotonic())


async def measure(admin: ApiClient, operator: Operator, size: Size) -> dict[str, Any]:
    """Times in seconds. The operator runs; its watches see nothing yet."""
    children = Children(admin)
    tasks = [asyncio.create_task(cache.run()) for cache in (children.pools, children.deployments)]
    try:
        await asyncio.gather(children.pools.synced(), children.deployments.synced())
        assert operator.pid is not None
        before = await sample(operator.port, operator.pid)
        began_s = time.monotonic()
        applied_s, pools_s, deployments_s = await _create(admin, children, size)
        settled_s, settled = await _settled(operator)
        print(f"settled after {settled_s - began_s:.0f} s", flush=True)
        steady = await _steady(operator, size.steady_s)
        print("steady: measured", flush=True)
        latencies = await _changes(admin, children, size)
        return {
            "services": size.services,
            "pools": size.services * size.pools,
            "applied_s": applied_s - began_s,
            "all_pools_s": pools_s - began_s,
            "all_deployments_s": deployments_s - began_s,
            "settled_s": settled_s - began_s,
            "creation": _difference(before, settled, settled_s - began_s),
            "steady": steady,
            "change_to_pool_s": _quantiles(latencies),
        }
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _create(admin: ApiClient, children: Children, size: Size) -> tuple[float, float, float]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await _patiently(admin, MODEL_SERVICES, service(number, size.pools))

    await asyncio.gather(*(one(number) for number in range(size.services)))
    applied_s = time.monotonic()
    wanted = size.services * size.pools
    pools_s = await _count(children.pools, wanted)
    return applied_s, pools_s, await _count(children.deployments, wanted)


async def _count(cache: Cache[int], wanted: int) -> float:
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


async def _changes(admin: ApiClient, children: Children, size: Size) -> list[float]:
    """From the API server's answer to a change of `replicas` until the InstancePool has it, as a watch tells."""
    rng = Random(size.services)
    latencies = []
    for _ in range(size.changes):
        number = rng.randrange(size.services)
        key = Key("default", f"svc-{number}-p0")
        replicas = 3 - (children.pools.get(key) or 1)
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        children.waiting[key] = (replicas, told)
        asked_s = time.monotonic()
        await _patiently(admin, MODEL_SERVICES, service(number, size.pools, first=replicas))
        latencies.append(await told - asked_s)
        del children.waiting[key]
    return latencies


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


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"count": len(ordered), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": ordered[-1]}
