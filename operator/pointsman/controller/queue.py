"""What is to be reconciled, when, and in which order: each item once, however often it is asked for. Pure: the time is a
parameter.

Of all that is due the most urgent comes first, and within one urgency who has been due longest; but every fourth turn is
that of who has been due longest of all, so that nothing waits for ever behind a stream of more urgent work.

An item that is asked for while it is being worked on is due again when that is done, for the work may have begun before what
it should see. One that failed is due later and later; that something changed makes it due at once all the same.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import Generic, NamedTuple, TypeVar

from pointsman.kube.pacing import Backoff

K = TypeVar("K", bound=Hashable)

FAIR_TURN = 4
"""Every so many turns urgency does not count."""


class Urgency(IntEnum):
    """Why an item is wanted, the most urgent first."""

    CHANGED = 0
    """What is asked of something that exists has been changed: somebody waits for it, and it may be serving."""
    TOLD = 1
    """It is new, or something has become of it."""
    ROUTINE = 2
    """Nothing seems to have changed; it is looked at all the same."""


class _Wish(NamedTuple):
    at_s: float
    urgency: Urgency
    order: int = 0
    """Tells a wish from those that it has replaced."""


@dataclass(frozen=True, slots=True)
class Taken(Generic[K]):
    """An item to work on now."""

    item: K
    waited_s: float
    """Since it was due."""


class WorkQueue(Generic[K]):
    """`take`, work, then `done` or `failed`. Nobody else gets the item in between."""

    def __init__(self, *, first_retry_s: float, last_retry_s: float, rng: Random) -> None:
        self._first_retry_s = first_retry_s
        self._last_retry_s = last_retry_s
        self._rng = rng
        self._wishes: dict[K, _Wish] = {}
        # Entries of the heaps are not taken out when their wish is replaced; then they are skipped.
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[Urgency, list[tuple[float, int, K]]] = {urgency: [] for urgency in Urgency}
        self._order = 0
        self._turn = 0
        self._working: dict[K, _Wish | None] = {}
        """Items being worked on, and when and why they are wanted again, if so."""
        self._backoffs: dict[K, Backoff] = {}

    def __len__(self) -> int:
        """Items that wait, now due or later."""
        return len(self._wishes)

    def due(self, now_s: float) -> int:
        """Items that wait and need not. Linear; for metrics."""
        return sum(wish.at_s <= now_s for wish in self._wishes.values())

    def add(self, item: K, at_s: float, urgency: Urgency = Urgency.TOLD) -> None:
        """Wanted at this time and for this reason, or earlier and more urgently if it already is."""
        wish = _Wish(at_s, urgency)
        if item in self._working:
            self._working[item] = _joined(self._working[item], wish)
            return
        planned = self._wishes.get(item)
        joined = _joined(planned, wish)
        if joined != planned:
            self._order += 1
            self._wishes[item] = joined._replace(order=self._order)
            heapq.heappush(self._later, (joined.at_s, self._order, item))

    def take(self, now_s: float) -> Taken[K] | None:
        """The item whose turn it is; None while none is due."""
        self._sort(now_s)
        waiting = [urgency for urgency in Urgency if self._first(self._due[urgency]) is not None]
        if not waiting:
            return None
        self._turn += 1
        fair = self._turn % FAIR_TURN == 0
        urgency = min(waiting, key=lambda urgency: self._due[urgency][0]) if fair else waiting[0]
        at_s, _, item = heapq.heappop(self._due[urgency])
        del self._wishes[item]
        self._working[item] = None
        return Taken(item, now_s - at_s)

    def next_due_s(self) -> float | None:
        heads = [self._first(heap) for heap in (self._later, *self._due.values())]
        return min((at_s for at_s in heads if at_s is not None), default=None)

    def done(self, item: K) -> None:
        self._backoffs.pop(item, None)
        self._finish(item)

    def failed(self, item: K, now_s: float, at_least_s: float = 0.0) -> float:
        """How long until it is tried again, unless it is asked for before; `at_least_s` is what the server asked for."""
        backoff = self._backoffs.setdefault(item, Backoff(self._first_retry_s, self._last_retry_s))
        pause_s = backoff.failed(self._rng, at_least_s)
        self.add(item, now_s + pause_s)
        self._finish(item)
        return pause_s

    def failures(self, item: K) -> int:
        """In a row."""
        backoff = self._backoffs.get(item)
        return 0 if backoff is None else backoff.failures

    def _sort(self, now_s: float) -> None:
        """Put what has become due to where it is taken from."""
        while (at_s := self._first(self._later)) is not None and at_s <= now_s:
            entry = heapq.heappop(self._later)
            heapq.heappush(self._due[self._wishes[entry[2]].urgency], entry)

    def _first(self, heap: list[tuple[float, int, K]]) -> float | None:
        """When the first of a heap that is still wanted is due."""
        while heap:
            at_s, order, item = heap[0]
            wish = self._wishes.get(item)
            if wish is not None and wish.order == order:
                return at_s
            heapq.heappop(heap)
        return None

    def _finish(self, item: K) -> None:
        again = self._working.pop(item)
        if again is not None:
            self.add(item, again.at_s, again.urgency)


def _joined(planned: _Wish | None, wish: _Wish) -> _Wish:
    if planned is None:
        return wish
    return _Wish(min(planned.at_s, wish.at_s), min(planned.urgency, wish.urgency), planned.order)
