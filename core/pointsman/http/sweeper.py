"""One coarse timer for many deadlines.

A timer per request costs more than the request's own parsing. Here everything that can time out is looked at a few
times a second, and an event costs nothing: it sets a flag, and the next sweep moves the deadline.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Sweepable(Protocol):
    def sweep(self, now_s: float) -> None:
        """Look whether a deadline has passed. May remove itself or others from the sweeper."""


class Sweeper:
    """Calls `sweep(now)` on its items every `interval_s`, and runs no timer while it has none.

    A deadline is noticed at most one interval late.
    """

    __slots__ = ("_handle", "_interval_s", "_items", "clock")

    def __init__(self, interval_s: float = 0.25, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._interval_s = interval_s
        self._items: set[Sweepable] = set()
        self._handle: asyncio.TimerHandle | None = None

    def add(self, item: Sweepable) -> None:
        self._items.add(item)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._interval_s, self._sweep)

    def discard(self, item: Sweepable) -> None:
        self._items.discard(item)

    def close(self) -> None:
        self._items.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _sweep(self) -> None:
        self._handle = None
        now_s = self.clock()
        for item in tuple(self._items):
            item.sweep(now_s)
        if self._items and self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._interval_s, self._sweep)
