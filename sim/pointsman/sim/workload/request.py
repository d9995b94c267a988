"""One request of a workload."""

from collections.abc import Iterable
from dataclasses import dataclass

HASH_BLOCK_TOKENS = 512
"""Tokens one hash id covers; the last block of a prompt may be partial."""


@dataclass(slots=True)
class TraceRequest:
    """What arrives when, how long its prompt is and how long its answer will be."""

    arrival_s: float
    """Since the first request of the workload."""
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()
    """Prefix blocks: equal ids at equal places mean equal prompts up to and including that block."""
    session_id: str = ""
    program_id: str = ""
    tenant: str = ""
    priority: int = 0
    prompt: str | None = None


Workload = Iterable[TraceRequest]
"""Requests in order of arrival. Iterating again starts anew, so that nothing needs to be held in memory."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How many requests a workload has and over which time they arrive."""

    requests: int
    last_arrival_s: float

    @property
    def period_s(self) -> float:
        """The time after which a repetition would start: the span and one mean gap."""
        if self.requests < 2:
            return self.last_arrival_s
        return self.last_arrival_s * self.requests / (self.requests - 1)


def measure_extent(workload: Workload) -> Extent:
    """Reads the workload once."""
    requests, last_s = 0, 0.0
    for request in workload:
        requests += 1
        last_s = request.arrival_s
    return Extent(requests, last_s)
