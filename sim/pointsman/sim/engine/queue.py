"""Requests that wait for their turn on an engine."""

import heapq
from collections import deque

from pointsman.sim.engine.request import EngineRequest


class WaitingQueue:
    """First come, first served; or by priority (lower first), then arrival.

    What was preempted goes back to the front: under priorities its arrival puts it there among its equals.
    """

    def __init__(self, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._line: deque[EngineRequest] = deque()
        self._heap: list[tuple[int, int, int, EngineRequest]] = []

    def __len__(self) -> int:
        return len(self._heap) if self._by_priority else len(self._line)

    def append(self, request: EngineRequest) -> None:
        if self._by_priority:
            entry = (request.priority, request.arrived_ps, request.number, request)
            heapq.heappush(self._heap, entry)
        else:
            self._line.append(request)

    def appendleft(self, request: EngineRequest) -> None:
        if self._by_priority:
            self.append(request)
        else:
            self._line.appendleft(request)

    def head(self) -> EngineRequest:
        return self._heap[0][3] if self._by_priority else self._line[0]

    def popleft(self) -> EngineRequest:
        return heapq.heappop(self._heap)[3] if self._by_priority else self._line.popleft()

    def remove(self, request: EngineRequest) -> bool:
        """Take a request out wherever it stands. False: it does not wait here."""
        if self._by_priority:
            kept = [entry for entry in self._heap if entry[3] is not request]
            found = len(kept) < len(self._heap)
            if found:
                self._heap = kept
                heapq.heapify(self._heap)
            return found
        try:
            self._line.remove(request)
        except ValueError:
            return False
        return True
