"""KV between instances: what is on its way to this one, and what this one holds for others."""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from pointsman.sim.engine.request import EngineRequest


class Arrivals:
    """Requests whose blocks are here and whose KV is on its way, or has come while they could not start."""

    __slots__ = ("_by_priority", "_coming", "_landed", "_order")

    def __init__(self, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._order = count()
        # (time, order of starting, request)
        self._coming: list[tuple[int, int, EngineRequest]] = []
        # (priority, arrival, order of starting, request)
        self._landed: list[tuple[int, int, int, EngineRequest]] = []

    def __len__(self) -> int:
        return len(self._coming) + len(self._landed)

    def __iter__(self) -> Iterator[EngineRequest]:
        yield from (entry[2] for entry in self._coming)
        yield from (entry[3] for entry in self._landed)

    def expect(self, request: EngineRequest, at_ps: int) -> None:
        heapq.heappush(self._coming, (at_ps, next(self._order), request))

    def next_ps(self) -> int | None:
        return self._coming[0][0] if self._coming else None

    def land(self, now_ps: int) -> None:
        """What was to come by now has come."""
        while self._coming and self._coming[0][0] <= now_ps:
            _, order, request = heapq.heappop(self._coming)
            rank = (request.priority, request.arrived_ps) if self._by_priority else (0, 0)
            heapq.heappush(self._landed, (*rank, order, request))

    def head(self) -> EngineRequest | None:
        """Whose turn it is among those whose KV is here."""
        return self._landed[0][3] if self._landed else None

    def pop(self) -> None:
        heapq.heappop(self._landed)

    def remove(self, request: EngineRequest) -> bool:
        before = len(self)
        self._coming = [entry for entry in self._coming if entry[2] is not request]
        self._landed = [entry for entry in self._landed if entry[3] is not request]
        heapq.heapify(self._coming)
        heapq.heapify(self._landed)
        return len(self) < before


class _Lease(NamedTuple):
    request: EngineRequest
    expires_ps: int


class Leases:
    """KV of finished requests, held for whoever pulls it. All last equally long, so the oldest ends first."""

    __slots__ = ("_by_id", "_duration_ps")

    def __init__(self, duration_ps: int) -> None:
        self._duration_ps = duration_ps
        self._by_id: OrderedDict[str, _Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[EngineRequest]:
        return (lease.request for lease in self._by_id.values())

    def grant(self, request: EngineRequest, now_ps: int) -> EngineRequest | None:
        """Returns the holder of the same id that it takes the place of, if there is one."""
        replaced = self._by_id.pop(request.request_id, None)
        self._by_id[request.request_id] = _Lease(request, now_ps + self._duration_ps)
        return None if replaced is None else replaced.request

    def renew(self, request_id: str, now_ps: int) -> bool:
        lease = self._by_id.get(request_id)
        if lease is None:
            return False
        self._by_id[request_id] = lease._replace(expires_ps=now_ps + self._duration_ps)
        self._by_id.move_to_end(request_id)
        return True

    def get(self, request_id: str) -> EngineRequest | None:
        lease = self._by_id.get(request_id)
        return None if lease is None else lease.request

    def release(self, request_id: str) -> EngineRequest | None:
        lease = self._by_id.pop(request_id, None)
        return None if lease is None else lease.request

    def next_ps(self) -> int | None:
        return next(iter(self._by_id.values())).expires_ps if self._by_id else None

    def expired(self, now_ps: int) -> list[EngineRequest]:
        """Those whose time is over, no longer held."""
        over = []
        while (expires_ps := self.next_ps()) is not None and expires_ps <= now_ps:
            over.append(self._by_id.popitem(last=False)[1].request)
        return over
