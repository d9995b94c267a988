"""The leader's work: takes items as they are due, gathers, decides, acts."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pointsman.controller.applying import Applier, Outcome
from pointsman.controller.items import Item, Want
from pointsman.controller.metrics import OperatorMetrics
from pointsman.controller.observing import Observer
from pointsman.controller.queue import Taken, Urgency, WorkQueue
from pointsman.controller.reconcile import reconcile
from pointsman.kube.errors import ApiError
from pointsman.kube.pacing import jittered

log = logging.getLogger(__name__)

STALE_PAUSE_S = 5.0
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What a mistake in pure code raises. One object that hits it must not keep the others from being reconciled."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, and how many at once."""

    workers: int = 8
    resync_s: float = 600.0
    """Everything is reconciled this often, whether or not something seems to have changed."""
    first_retry_s: float = 0.2
    last_retry_s: float = 60.0
    stuck_s: float = 300.0
    """A pass that takes longer has died."""


class Work:
    """A queue that is fed all the time, and workers that run while this process leads."""

    def __init__(
        self,
        pace: Pace,
        metrics: OperatorMetrics,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self._pace = pace
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng
        self._queue = self._empty_queue()
        self._changed = asyncio.Event()
        self._leading = False
        self._begun_s: dict[Item, float] = {}

    def want(self, wanted: Want) -> None:
        """Reconcile it. A standby needs no list: who begins to lead reconciles everything."""
        if self._leading:
            self._add(wanted.item, self._clock() + wanted.after_s, wanted.urgency)

    def waiting(self) -> int:
        """Items that are due."""
        return self._queue.due(self._clock())

    def stuck(self, now_s: float) -> str:
        """Items whose pass has died; empty for none."""
        return ", ".join(
            str(item) for item, begun_s in self._begun_s.items() if now_s - begun_s > self._pace.stuck_s
        )

    async def lead(self, observer: Observer, applier: Applier) -> None:
        """Until cancelled, when the write under way is given up: it has happened or it has not, and either is fine."""
        await observer.synced()
        # A new one: items that were being worked on when this process last ceased to lead count as such for ever in the old.
        self._queue = self._empty_queue()
        self._leading = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._resync(observer), name="resync")
                for number in range(self._pace.workers):
                    tasks.create_task(self._work(observer, applier), name=f"worker {number}")
        finally:
            self._leading = False
            self._begun_s.clear()

    def _empty_queue(self) -> WorkQueue[Item]:
        pace = self._pace
        return WorkQueue(first_retry_s=pace.first_retry_s, last_retry_s=pace.last_retry_s, rng=self._rng)

    async def _resync(self, observer: Observer) -> None:
        spread_s = 0.0
        while True:
            for item in observer.everything():
                # After the first, which is urgent, they are spread over a quarter of the period.
                self._add(item, self._clock() + self._rng.uniform(0.0, spread_s), Urgency.ROUTINE)
            spread_s = self._pace.resync_s / 4
            await asyncio.sleep(jittered(self._pace.resync_s, self._rng))

    async def _work(self, observer: Observer, applier: Applier) -> None:
        while True:
            taken = await self._take()
            stale = observer.stale(self._clock())
            if stale:
                log.warning("nothing is reconciled: not heard of for too long: %s", stale)
                self._queue.failed(taken.item, self._clock(), at_least_s=STALE_PAUSE_S)
                continue
            begun_s = self._begun_s[taken.item] = self._clock()
            try:
                outcome = await self._pass(taken.item, observer, applier)
            finally:
                self._begun_s.pop(taken.item, None)
            now_s = self._clock()
            self._metrics.reconciled(taken.item.kind, outcome, now_s - begun_s, taken.waited_s)
            self._settle(taken.item, outcome, observer, now_s)

    async def _pass(self, item: Item, observer: Observer, applier: Applier) -> Outcome:
        observed = observer.gather(item)
        if observed is None:
            observer.refusals.pop(item, None)
            return Outcome()
        try:
            actions = reconcile(observed, self._wall_clock())
        except FAULTS as error:
            log.exception("%s cannot be reconciled", item)
            return Outcome(fault=f"{type(error).__name__}: {error}")
        return await applier.carry_out(actions)

    def _settle(self, item: Item, outcome: Outcome, observer: Observer, now_s: float) -> None:
        before = observer.refusals.get(item, "")
        if outcome.refused:
            observer.refusals[item] = outcome.refused
        elif outcome.error is None:
            observer.refusals.pop(item, None)
        if outcome.error is not None or outcome.fault:
            asked_s = outcome.error.retry_after_s if isinstance(outcome.error, ApiError) else None
            if outcome.refused != before:
                self._add(item, now_s)  # so that the condition says what was refused
            pause_s = self._queue.failed(item, now_s, asked_s or 0.0)
            log.warning("%s is tried again in %.1f s: %s", item, pause_s, outcome.error or outcome.fault)
        else:
            self._queue.done(item)
            if before:
                self._add(item, now_s)  # so that the condition no longer does
        if outcome.requeue_s is not None:
            self._add(item, now_s + outcome.requeue_s)
        self._changed.set()

    def _add(self, item: Item, at_s: float, urgency: Urgency = Urgency.TOLD) -> None:
        self._queue.add(item, at_s, urgency)
        self._changed.set()

    async def _take(self) -> Taken[Item]:
        while True:
            now_s = self._clock()
            taken = self._queue.take(now_s)
            if taken is not None:
                return taken
            self._changed.clear()
            next_s = self._queue.next_due_s()
            try:
                async with asyncio.timeout(None if next_s is None else max(0.0, next_s - now_s)):
                    await self._changed.wait()
            except TimeoutError:
                continue
