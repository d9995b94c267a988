"""What is to happen, in the one order in which it does.

At equal times runs of iterations end first, then instances are lost or start, progress is told, routers wake, requests
arrive, then later calls of programs, and then idle instances begin; ties within a kind go by instance, router and order of arrival.
"""

from heapq import heappush
from typing import Final

INSTANCE_CHANGES: Final = 0
PROGRESS_IS_TOLD: Final = 1
ROUTER_WAKES: Final = 2
CALL_ARRIVES: Final = 3
INSTANCE_WAKES: Final = 4
NO_MORE: Final = (1 << 62) - 1
"""Later than anything: 53 days."""

QueuedEvent = tuple[int, int, int, int]
"""Time, kind, number of the instance, change or router, and the version of the instance's run."""


class Timeline:
    """The present, and a heap of what is to come but the ends of runs: those are in `RunEnds`."""

    __slots__ = ("now_ps", "queue", "turn")

    def __init__(self) -> None:
        self.now_ps = 0
        self.turn = NO_MORE
        """While runs end: whose run it is. Else all that end now have ended."""
        self.queue: list[QueuedEvent] = []

    def add(self, at_ps: int, kind: int, number: int, version: int = 0) -> None:
        heappush(self.queue, (at_ps, kind, number, version))
