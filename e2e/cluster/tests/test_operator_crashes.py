"""The operator is killed after every single write, with a bad view of the cluster besides, and what comes of it is the same.

A seeded sample of the crash points runs by default (CRASH_SEED, CRASH_POINTS); `make test-cluster-full` runs all of them.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random, SystemRandom

import pytest

from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import Nursery, Operator, grant, nursery, write_kubeconfig
from e2e.cluster.operating.proxy import Faults, Proxy, Write, proxied
from e2e.cluster.operating.scenario import QUIET_S, World
from pointsman.api.crd.definitions import definitions
from pointsman.kube.access import Access, kubeconfig_access
from pointsman.kube.client import ApiClient

SAMPLE = int(os.environ.get("CRASH_POINTS", "3"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or SystemRandom().randrange(2**31)
BAD_VIEW = Faults(lost_events=0.1, stale_lists=0.4, late_events_s=0.1)
OPTIONS = ("--identity=the-one", "--relist=2", "--log-level=info")
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
    return control_plane, grant(control_plane, [])


class Bench:
    """An operator behind a proxy, and the admin's own way past it."""

    def __init__(self, access: Access, nursery_: Nursery, token: str, folder: Path) -> None:
        self.access = access
        self.nursery = nursery_
        self.token = token
        self.folder = folder
        self.runs = 0

    async def run(
        self, *, kill_after: frozenset[int] = frozenset(), always: bool = False, faults: Faults, seed: int
    ) -> tuple[list[Write], World, Proxy, Operator]:
        """The whole scenario once, killing after these writes. Raises NotConvergedError."""
        self.runs += 1
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(proxied(self.access, Random(seed)))
            proxy.faults = faults
            admin = await stack.enter_async_context(ApiClient(self.access))
            world = World(admin, f"crash-{self.runs}")
            await _make_namespace(admin, world.namespace)
            file = write_kubeconfig(
                self.folder / f"kubeconfig-{self.runs}", f"http://127.0.0.1:{proxy.port}", self.token
            )
            operator = Operator(
                self.nursery,
                file,
                self.folder,
                namespaces=[world.namespace],
                port=0,
                extra=OPTIONS,
            )
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

            async def calm(_: str) -> None:
                await _calm(proxy)

            proxy.after_write = after_write
            keeper = asyncio.create_task(keep_alive())
            try:
                await world.steps(calm)
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await operator.kill()
            return proxy.writes, world, proxy, operator


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
    access = kubeconfig_access(Path(cluster.environment["KUBECONFIG"]))
    with cluster.sandbox.network():
        async with nursery() as started:
            yield Bench(access, started, token, tmp_path)


async def crash_at(bench: Bench, points: list[int], expected: int, seed: int) -> None:
    for point in points:
        faults = BAD_VIEW if Random(seed + point).random() < 0.5 else Faults()
        _, world, proxy, operator = await bench.run(
            kill_after=frozenset({point}), faults=faults, seed=seed + point
        )
        told(
            f"killed after write {point}: {operator.starts} starts, {len(proxy.writes)} writes, "
            f"{proxy.lost} events lost, {proxy.stale} stale lists, {len(world.made)} instances made"
        )
        # Where all it knew was true, not one instance more than needed. A view from the past may cost one that goes again.
        most = expected + (TRANSIENT if proxy.stale or proxy.lost else 0)
        assert expected <= len(world.made) <= most, f"{len(world.made)} instances made instead of {expected}"


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the count of crash points is asked for


@pytest.mark.timeout(600)
async def test_killed_after_any_write_it_comes_to_the_same(bench: Bench) -> None:
    writes, world, _, operator = await bench.run(faults=Faults(), seed=SEED)
    assert operator.starts == 1
    chosen = sorted(Random(SEED).sample(range(1, len(writes) + 1), SAMPLE))
    told(f"\nCRASH_SEED={SEED}: {SAMPLE} of {len(writes)} crash points: {chosen}")
    await crash_at(bench, chosen, len(world.made), SEED)


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_killed_after_every_single_write_it_comes_to_the_same(bench: Bench) -> None:
    writes, world, _, _ = await bench.run(faults=Faults(), seed=SEED)
    told(f"\nCRASH_SEED={SEED}: all {len(writes)} crash points")
    await crash_at(bench, list(range(1, len(writes) + 1)), len(world.made), SEED)


@pytest.mark.timeout(600)
async def test_killed_after_each_write_of_its_life_it_comes_to_the_same(bench: Bench) -> None:
    """No life lasts longer than one write."""
    _, world, proxy, operator = await bench.run(always=True, faults=Faults(), seed=SEED)
    told(f"\n{operator.starts} lives, {len(proxy.writes)} writes, {len(world.made)} instances made")
    # Workers write side by side, so that several writes may be under way at a death.
    assert operator.starts > 10
    assert len(world.made) == 8


@pytest.mark.timeout(600)
async def test_with_a_bad_view_it_comes_to_the_same(bench: Bench) -> None:
    _, world, proxy, _ = await bench.run(faults=BAD_VIEW, seed=SEED)
    told(f"\nCRASH_SEED={SEED}: {proxy.lost} events lost, {len(world.made)} instances made")
    assert proxy.lost > 0
    assert 8 <= len(world.made) <= 8 + TRANSIENT
