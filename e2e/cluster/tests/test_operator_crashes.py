"""The operator is killed after every single write, with a bad view of the cluster besides, and what comes of it is the same.

A seeded sample of the crash points runs by default (CRASH_SEED, CRASH_POINTS); `make test-cluster-full` runs all of them, a few
side by side. Deleting is the cluster's own work: the operator writes no more than a status in it, and a test of its own shows that it
needs no operator.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Literal

import pytest

from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import (
    Nursery,
    Operator,
    direct_kubeconfig,
    grant,
    nursery,
    write_kubeconfig,
)
from e2e.cluster.operating.proxy import Faults, Proxy, Write, proxied
from e2e.cluster.operating.scenario import QUIET_S, World
from pointsman.api.crd.definitions import definitions
from pointsman.kube.access import Access, kubeconfig_access
from pointsman.kube.client import ApiClient

SAMPLE = int(os.environ.get("CRASH_POINTS", "3"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or SystemRandom().randrange(2**31)
BAD_VIEW = Faults(lost_events=0.1, stale_lists=0.4, late_events_s=0.1)
# A Lease that outlives seconds in which a busy API server does not answer: who leads is another test's business.
OPTIONS = ("--identity=the-one", "--lease-seconds=30", "--log-level=info")
# How what was lost is found. Where nothing is, it only takes the API server's time: eight kinds are listed each time.
RELIST_BAD_VIEW = "--relist=2"
RELIST = "--relist=30"
AT_ONCE = 3
"""Scenarios side by side, each with a Lease of its own: most of a scenario is waiting for nothing to happen."""
TRANSIENT = 4
"""As many instances as the ModelService has: more would be flapping."""


@pytest.fixture(scope="module")
def prepared(control_plane: LocalCluster) -> tuple[LocalCluster, str]:
    """With nodes, definitions, and a token that holds exactly the operator's rights."""
    control_plane.add_fake_nodes(3, gpus=64)
    control_plane.apply(*definitions())
    eventually(
        lambda: all(map(control_plane.node_is_ready, control_plane.nodes())), "fake nodes are not ready"
    )
    return control_plane, grant(control_plane, [], leases=[_lease(slot) for slot in range(AT_ONCE)])


def _lease(slot: int) -> str:
    return f"lease-{slot}"


@dataclass(slots=True)
class Run:
    """What came of one scenario."""

    world: World
    proxy: Proxy
    operator: Operator
    by_step: dict[str, int] = field(default_factory=dict)
    """Writes of the operator in each step."""

    @property
    def made(self) -> int:
        """Instances."""
        return len(self.world.made)


class Bench:
    """An operator behind a proxy, and the admin's own way past it."""

    def __init__(self, cluster: LocalCluster, nursery_: Nursery, token: str, folder: Path) -> None:
        self.cluster = cluster
        self.access: Access = kubeconfig_access(Path(cluster.environment["KUBECONFIG"]))
        self.nursery = nursery_
        self.token = token
        self.folder = folder
        self.runs = 0

    async def run(
        self,
        *,
        kill_after: frozenset[int] = frozenset(),
        always: bool = False,
        faults: Faults,
        seed: int,
        slot: int = 0,
    ) -> Run:
        """The whole scenario once, killing after these writes. Raises NotConvergedError."""
        self.runs += 1
        namespace = f"crash-{self.runs}"  # before anything is awaited: scenarios run side by side
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(proxied(self.access, Random(seed)))
            proxy.faults = faults
            admin = await stack.enter_async_context(ApiClient(self.access))
            world = World(admin, namespace)
            await _make_namespace(admin, world.namespace)
            file = write_kubeconfig(
                self.folder / world.namespace, f"http://127.0.0.1:{proxy.port}", self.token
            )
            operator = Operator(
                self.nursery,
                file,
                self.folder,
                namespaces=[world.namespace],
                port=0,
                lease=_lease(slot),
                extra=(*OPTIONS, RELIST_BAD_VIEW if faults.lost_events else RELIST),
            )
            run = Run(world, proxy, operator)
            killed = asyncio.Event()

            def after_write(write: Write) -> None:
                if (
                    (always or write.number in kill_after)
                    and operator.pid is not None
                    and not killed.is_set()
                ):
                    os.kill(operator.pid, signal.SIGKILL)
                    killed.set()

            async def keep_alive() -> None:
                while True:
                    proxy.begin_life()
                    await operator.start()
                    await killed.wait()
                    await operator.reap()
                    killed.clear()

            async def calm(step: str) -> None:
                await _calm(proxy)
                run.by_step[step] = len(proxy.writes) - sum(run.by_step.values())

            proxy.after_write = after_write
            keeper = asyncio.create_task(keep_alive())
            try:
                await world.steps(calm)
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await operator.kill()
            return run


async def _make_namespace(admin: ApiClient, name: str) -> None:
    from pointsman.kube.resource import Resource

    resource = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
    await admin.apply(
        resource, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="e2e"
    )


async def _calm(proxy: Proxy) -> None:
    """When all is as it should be the writes end: whoever flaps is caught here. Status may still settle for a moment."""
    for _ in range(20):
        before = len(proxy.writes)
        await asyncio.sleep(QUIET_S)
        if len(proxy.writes) == before:
            return
    raise AssertionError(f"the writes do not end: {proxy.writes[-10:]}")


@pytest.fixture
async def bench(prepared: tuple[LocalCluster, str], tmp_path: Path) -> AsyncIterator[Bench]:
    cluster, token = prepared
    with cluster.sandbox.network():
        async with nursery() as started:
            yield Bench(cluster, started, token, tmp_path)


async def crash_at(bench: Bench, points: list[int], expected: int, seed: int) -> None:
    left = iter(points)

    async def one_after_the_other(slot: int) -> None:
        for point in left:
            await crash(bench, point, expected, seed + point, slot)

    async with asyncio.TaskGroup() as tasks:
        for slot in range(AT_ONCE):
            tasks.create_task(one_after_the_other(slot))


async def crash(bench: Bench, point: int, expected: int, seed: int, slot: int) -> None:
    faults = BAD_VIEW if Random(seed).random() < 0.5 else Faults()
    run = await bench.run(kill_after=frozenset({point}), faults=faults, seed=seed, slot=slot)
    proxy = run.proxy
    told(
        f"killed after write {point}: {run.operator.starts} starts, {len(proxy.writes)} writes, "
        f"{proxy.lost} events lost, {proxy.stale} stale lists, {run.made} instances made"
    )
    # Where all it knew was true, not one instance more than needed. A view from the past may cost one that goes again.
    most = expected + (TRANSIENT if proxy.stale or proxy.lost else 0)
    assert expected <= run.made <= most, f"{run.made} instances made instead of {expected}"


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the count of crash points is asked for


@pytest.mark.timeout(600)
async def test_killed_after_any_write_it_comes_to_the_same(bench: Bench) -> None:
    whole = await bench.run(faults=Faults(), seed=SEED)
    assert whole.operator.starts == 1
    writes = len(whole.proxy.writes)
    deleting = whole.proxy.writes[writes - whole.by_step["delete"] :]
    # It may yet say how things are, where it hears of a pool's end before the ModelService's.
    assert [write for write in deleting if not write.path.endswith("/status")] == []
    chosen = sorted(Random(SEED).sample(range(1, writes + 1), SAMPLE))
    told(f"\nCRASH_SEED={SEED}: {SAMPLE} of {writes} crash points ({whole.by_step}): {chosen}")
    await crash_at(bench, chosen, whole.made, SEED)


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_killed_after_every_single_write_it_comes_to_the_same(bench: Bench) -> None:
    whole = await bench.run(faults=Faults(), seed=SEED)
    writes = len(whole.proxy.writes)
    told(f"\nCRASH_SEED={SEED}: all {writes} crash points ({whole.by_step})")
    await crash_at(bench, list(range(1, writes + 1)), whole.made, SEED)


@pytest.mark.timeout(600)
async def test_killed_after_each_write_of_its_life_it_comes_to_the_same(bench: Bench) -> None:
    """No life lasts longer than one write."""
    run = await bench.run(always=True, faults=Faults(), seed=SEED)
    told(f"\n{run.operator.starts} lives, {len(run.proxy.writes)} writes, {run.made} instances made")
    # Workers write side by side, so that several writes may be under way at a death.
    assert run.operator.starts > 10
    assert run.made == 8


@pytest.mark.timeout(600)
async def test_with_a_bad_view_it_comes_to_the_same(bench: Bench) -> None:
    run = await bench.run(faults=BAD_VIEW, seed=SEED)
    told(f"\nCRASH_SEED={SEED}: {run.proxy.lost} events lost, {run.made} instances made")
    assert run.proxy.lost > 0
    assert 8 <= run.made <= 8 + TRANSIENT


@pytest.mark.timeout(300)
@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
async def test_deleting_needs_no_operator(
    bench: Bench, propagation: Literal["Foreground", "Background"]
) -> None:
    """It is killed for good before anything is deleted, and nothing is left all the same: no finalizer waits for it."""
    async with ApiClient(bench.access) as admin:
        world = World(admin, f"deserted-{propagation.lower()}")
        await _make_namespace(admin, world.namespace)
        file = direct_kubeconfig(bench.folder / world.namespace, bench.cluster, bench.token)
        operator = Operator(
            bench.nursery,
            file,
            bench.folder,
            namespaces=[world.namespace],
            port=0,
            lease=_lease(0),
            extra=(*OPTIONS, RELIST),
        )
        await operator.start()
        await world.create()
        await operator.kill()
        await world.delete(propagation)
