"""A circuit breaker: an instance whose requests fail is left alone, then tried again with a few requests.

    closed --(enough failures, and enough of all results)--> open --(open_s)--> half open
    half open --(recoveries successes)--> closed; --(one failure)--> open, for twice as long as the last time

The states are those of Nygard, "Release It!" (2007). Results are counted with exponential decay rather than in
windows, so that a breaker needs two numbers, forgets smoothly, and opens on three failures in a row as well as on every
second request failing.
"""

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """What may be sent: everything, nothing, or a few probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When it opens and closes. Times in seconds."""

    failures: float = 3.0
    """Least number of recent failures that opens it."""
    failed_share: float = 0.5
    """Least share of recent results that are failures."""
    half_life_s: float = 10.0
    """After which a result counts half."""
    open_s: float = 2.0
    max_open_s: float = 30.0
    probes: int = 1
    """Requests let through at once while half open."""
    recoveries: int = 2
    """Successes in a row that close it."""
    probe_s: float = 60.0
    """A probe of which nothing was heard for so long no longer counts as under way: its client may have left."""


class Breaker:
    """One instance's breaker. Every method is told the time, in seconds of one monotonic clock."""

    __slots__ = (
        "_at_s",
        "_failed",
        "_grain_s",
        "_open_s",
        "_options",
        "_probes",
        "_recovered",
        "_state",
        "_succeeded",
        "_until_s",
    )

    def __init__(self, options: BreakerOptions, now_s: float) -> None:
        self._options = options
        self._state = BreakerState.CLOSED
        self._failed = 0.0
        self._succeeded = 0.0
        self._at_s = now_s
        self._grain_s = options.half_life_s / 64.0
        self._open_s = options.open_s
        self._until_s = now_s
        self._probes: list[float] = []
        self._recovered = 0

    @property
    def tripped(self) -> bool:
        """Whether it is anything but closed."""
        return self._state is not BreakerState.CLOSED

    def state(self, now_s: float) -> BreakerState:
        """The state now: what is open becomes half open by itself."""
        if self._state is BreakerState.OPEN and now_s >= self._until_s:
            self._state = BreakerState.HALF_OPEN
            self._probes.clear()
            self._recovered = 0
        return self._state

    def admits(self, now_s: float) -> bool:
        """Whether a request may be sent."""
        state = self.state(now_s)
        if state is BreakerState.HALF_OPEN:
            oldest_s = now_s - self._options.probe_s
            self._probes = [sent_s for sent_s in self._probes if sent_s > oldest_s]
            return len(self._probes) < self._options.probes
        return state is BreakerState.CLOSED

    def sent(self, now_s: float) -> None:
        """A request is being sent; counts while half open."""
        if self.state(now_s) is BreakerState.HALF_OPEN:
            self._probes.append(now_s)

    def succeeded(self, now_s: float) -> None:
        """A request was answered."""
        if self._state is BreakerState.CLOSED:
            if now_s - self._at_s > self._grain_s:  # on the hot path: not with every result
                self._decay(now_s)
            self._succeeded += 1.0
        elif self.state(now_s) is BreakerState.HALF_OPEN:
            if self._probes:
                self._probes.pop(0)
            self._recovered += 1
            if self._recovered >= self._options.recoveries:
                self._close(now_s)

    def failed(self, now_s: float) -> None:
        """A request failed in a way that is the instance's fault."""
        state = self.state(now_s)
        options = self._options
        if state is BreakerState.HALF_OPEN:
            self._open_s = min(2.0 * self._open_s, options.max_open_s)
            self._open(now_s)
        elif state is BreakerState.CLOSED:
            self._decay(now_s)
            self._failed += 1.0
            share = self._failed / (self._failed + self._succeeded)
            # Decay between two failures of one moment must not demand one failure more than was asked for.
            if self._failed > options.failures - 0.5 and share >= options.failed_share:
                self._open(now_s)

    def wakes_s(self, now_s: float) -> float | None:
        """When `admits` may change by itself; None: not before the next call of another method."""
        state = self.state(now_s)
        if state is BreakerState.OPEN:
            return self._until_s
        if state is BreakerState.HALF_OPEN and not self.admits(now_s):
            return min(self._probes) + self._options.probe_s
        return None

    def _open(self, now_s: float) -> None:
        self._state = BreakerState.OPEN
        self._until_s = now_s + self._open_s

    def _close(self, now_s: float) -> None:
        self._state = BreakerState.CLOSED
        self._failed = self._succeeded = 0.0
        self._at_s = now_s
        self._open_s = self._options.open_s

    def _decay(self, now_s: float) -> None:
        if now_s > self._at_s:
            factor = 0.5 ** ((now_s - self._at_s) / self._options.half_life_s)
            self._failed *= factor
            self._succeeded *= factor
            self._at_s = now_s
