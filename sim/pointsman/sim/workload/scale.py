"""More or fewer requests per second from one trace.

A trace that is only compressed gets unnaturally bursty and runs out early. Up to a factor of 4, time is compressed;
beyond, n = ceil(factor / 4) copies run beside each other, each compressed by factor / n and shifted cyclically, so
that rates add while no copy is squeezed more than 4-fold. Copies share nothing: their prefix blocks, sessions and
programs are distinct. Of a program only its beginning moves: what its tools take stays as long as it is.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from random import Random

from pointsman.sim.workload.request import TraceRequest, Workload, count_requests, measure_extent

MOST_COMPRESSION = 4


@dataclass(frozen=True, slots=True)
class RateScaled:
    """A workload at `factor` times its request rate. Raises ValueError for a factor that is not above 0."""

    source: Workload
    factor: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"a rate scale must be a number above 0, not {self.factor}")

    @property
    def copies(self) -> int:
        return max(1, math.ceil(self.factor / MOST_COMPRESSION))

    def __iter__(self) -> Iterator[TraceRequest]:
        copies, compression = self.copies, self.factor / self.copies
        if compression == 1.0 and copies == 1:
            return iter(self.source)
        if copies == 1:
            return _compressed(self.source, compression)
        period_s = measure_extent(self.source).period_s
        rng = Random(self.seed)
        shifts = [0.0] + [rng.uniform(0.0, period_s) for _ in range(1, copies)]
        rotated = [
            map(Copy(copy, copies, compression), _rotated(self.source, shift_s, period_s))
            for copy, shift_s in enumerate(shifts)
        ]
        return heapq.merge(*rotated, key=attrgetter("arrival_s"))

    def request_count(self) -> int:
        return self.copies * count_requests(self.source)


@dataclass(frozen=True, slots=True)
class Cut:
    """The first `requests` requests of a workload; None: all of them. A program is there with all its calls or not at all."""

    source: Workload
    requests: int | None

    def __iter__(self) -> Iterator[TraceRequest]:
        return iter(self.source) if self.requests is None else _first(self.source, self.requests)

    def request_count(self) -> int:
        """With programs, a bound: the last may not fit."""
        found = count_requests(self.source)
        return found if self.requests is None else min(found, self.requests)


def _first(source: Workload, requests: int) -> Iterator[TraceRequest]:
    left = requests
    for request in source:
        left -= request.calls
        if left < 0:
            return
        yield request
        if not left:
            return


def _compressed(source: Workload, factor: float) -> Iterator[TraceRequest]:
    for request in source:
        yield request.at(request.arrival_s / factor)


def _rotated(source: Workload, shift_s: float, period_s: float) -> Iterator[TraceRequest]:
    """The workload from `shift_s` on, then its beginning: read twice rather than held."""
    for request in source:
        if request.arrival_s >= shift_s:
            yield request.at(request.arrival_s - shift_s)
    for request in source:
        if request.arrival_s >= shift_s:
            return
        yield request.at(request.arrival_s + period_s - shift_s)


@dataclass(frozen=True, slots=True)
class Copy:
    """Makes a request one of the `copy`-th of `copies` copies."""

    copy: int
    copies: int
    compression: float = 1.0

    def __call__(self, request: TraceRequest) -> TraceRequest:
        copy = request.at(request.arrival_s / self.compression)
        if request.hash_ids:
            copy.hash_ids = tuple(map(self._block, request.hash_ids))
        if request.program is not None:
            copy.program = request.program.renamed(self._block)
        if request.session_id:
            copy.session_id = f"{self.copy}/{request.session_id}"
        if request.program_id:
            copy.program_id = f"{self.copy}/{request.program_id}"
        return copy

    def _block(self, hash_id: int) -> int:
        return hash_id * self.copies + self.copy
