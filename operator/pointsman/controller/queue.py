"""What is to be reconciled, and when: each item once, however often it is asked for. Pure: the time is a parameter.

An item that is asked for while it is being worked on is due again when that is done, for the work may have begun before what
it should see. One that failed is due later and later; that something changed makes it due at once all the same.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from pointsman.kube.pacing import Backoff

K = TypeVar("K", bound=Hashable)


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
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._working: dict[K, float | None] = {}
        """Items being worked on, and when they are due again, if so."""
        self._backoffs: dict[K, Backoff] = {}

    def __len__(self) -> int:
        """Items that wait, now due or later."""
        return len(self._due)

    def due(self, now_s: float) -> int:
        """Items that wait and need not. Linear; for metrics."""
        return sum(at_s <= now_s for at_s in self._due.values())

    def add(self, item: K, at_s: float) -> None:
        """Wanted at this time, or earlier if it already is."""
        if item in self._working:
            planned_s = self._working[item]
            self._working[item] = at_s if planned_s is None else min(planned_s, at_s)
        elif item not in self._due or at_s < self._due[item]:
            self._due[item] = at_s
            self._order += 1
            heapq.heappush(self._heap, (at_s, self._order, item))

    def take(self, now_s: float) -> Taken[K] | None:
        """The item that is due longest; None while none is."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, _, item = heapq.heappop(self._heap)
            if self._due.get(item) == at_s:  # else it was moved to an earlier time, and has been taken
                del self._due[item]
                self._working[item] = None
                return Taken(item, now_s - at_s)
        return None

    def next_due_s(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

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

    def clear(self) -> None:
        """Forget everything that waits."""
        self._due.clear()
        self._heap.clear()
        self._backoffs.clear()

    def _finish(self, item: K) -> None:
        again_s = self._working.pop(item)
        if again_s is not None:
            self.add(item, again_s)
