"""The leader's work without a cluster: what is taken when, and that nothing is forgotten when leading ends and begins again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random

from pointsman.controller.applying import Applier, Outcome
from pointsman.controller.items import Item, Kind, Want
from pointsman.controller.metrics import OperatorMetrics
from pointsman.controller.observing import Observer
from pointsman.controller.queue import Urgency
from pointsman.controller.reconcile.actions import Action, PatchStatus
from pointsman.controller.reconcile.observed import ClusterFacts
from pointsman.controller.working import Pace, Work
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing
from pointsman.kube.recording import EventRecorder
from pointsman.kube.resource import MODEL_SERVICES, Key

CLIENT = ApiClient(Access("http://127.0.0.1:1"))


class Known(Observer):
    """Has listed everything, which is ModelServices of these names that nobody can read."""

    def __init__(self, *services: str) -> None:
        super().__init__(
            CLIENT,
            lambda _: None,
            namespaces=["ns"],
            told=ClusterFacts(),
            timing=Timing(),
            clock=time.monotonic,
            rng=Random(0),
        )
        for name in services:
            metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
            kind = {"apiVersion": MODEL_SERVICES.api_version, "kind": MODEL_SERVICES.kind}
            self.learn(MODEL_SERVICES, {**kind, "metadata": metadata, "spec": {}})

    async def synced(self) -> None:
        pass

    def stale(self, _: float) -> str:
        return ""


class Gate(Applier):
    """Says which objects it was to write to, and holds the pass until it is let go."""

    def __init__(self) -> None:
        super().__init__(CLIENT, EventRecorder(CLIENT, controller="it", instance="it"), lambda *_: None)
        self.seen: list[str] = []
        self.open = asyncio.Event()

    async def carry_out(self, actions: Sequence[Action]) -> Outcome:
        self.seen += [action.ref.name for action in actions if isinstance(action, PatchStatus)]
        await self.open.wait()
        return Outcome()


def work(clock: Callable[[], float] = time.monotonic) -> Work:
    return Work(Pace(workers=1), OperatorMetrics(), clock=clock, wall_clock=time.time, rng=Random(0))


def service(name: str, urgency: Urgency = Urgency.TOLD) -> Want:
    return Want(Item(Kind.SERVICE, Key("ns", name)), urgency)


async def until_seen(gate: Gate, count: int) -> None:
    while len(gate.seen) < count:
        await asyncio.sleep(0.01)


async def test_who_leads_again_works_again_on_what_was_cut_short() -> None:
    worked, known, gate = work(), Known("a"), Gate()
    for _ in range(2):
        gate.seen.clear()
        leading = asyncio.create_task(worked.lead(known, gate))
        await until_seen(gate, 1)
        leading.cancel()
        await asyncio.wait([leading])


async def test_a_pass_that_hangs_is_told() -> None:
    now_s = 0.0
    worked, known, gate = work(lambda: now_s), Known("a"), Gate()
    leading = asyncio.create_task(worked.lead(known, gate))
    await until_seen(gate, 1)
    now_s = 299.0
    assert worked.stuck(now_s) == ""
    now_s = 301.0
    assert worked.stuck(now_s) == "ModelService ns/a"
    leading.cancel()
    await asyncio.wait([leading])


async def test_what_somebody_changes_goes_before_everything_that_is_looked_at_in_turn() -> None:
    names = [f"s{number}" for number in range(20)]
    worked, known, gate = work(), Known(*names), Gate()
    leading = asyncio.create_task(worked.lead(known, gate))
    await until_seen(gate, 1)
    last = next(name for name in reversed(names) if name not in gate.seen)
    worked.want(service(last, Urgency.CHANGED))
    gate.open.set()
    await until_seen(gate, 3)
    assert last in gate.seen[1:3]
    leading.cancel()
    await asyncio.wait([leading])
