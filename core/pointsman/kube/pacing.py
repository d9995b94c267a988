"""How long to wait before the next try: pure, with the random generator as a parameter."""

from dataclasses import dataclass
from random import Random

JITTER = 0.1
"""Share by which periods vary, so that many processes do not ask all at once."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a cache asks; all in seconds."""

    relist_s: float = 300.0
    """A list is taken this often even though the watch seems well: the bound on what a lost event can do."""
    idle_s: float = 90.0
    """A watch on which nothing came for so long is dead. API servers send a bookmark each minute."""
    list_timeout_s: float = 60.0
    first_retry_s: float = 0.2
    last_retry_s: float = 10.0
    healthy_s: float = 5.0
    """A watch that ended sooner counts as a failure, so that one which always ends is not started in a loop."""

    def __post_init__(self) -> None:
        if min(self.relist_s, self.idle_s, self.list_timeout_s, self.first_retry_s) <= 0:
            raise ValueError("periods must be above 0 s")
        if self.last_retry_s < self.first_retry_s:
            raise ValueError("the longest pause between tries cannot be shorter than the first")


class Backoff:
    """Pauses that double from `first_s` to `last_s`, each shortened by up to half at random.

    The randomness spreads the clients of an API server that comes back (AWS's "equal jitter"; Marc Brooker, 2015).
    """

    __slots__ = ("_failures", "_first_s", "_last_s")

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._failures = 0

    @property
    def failures(self) -> int:
        """In a row."""
        return self._failures

    def failed(self, rng: Random, at_least_s: float = 0.0) -> float:
        """The pause before the next try; `at_least_s` is what the server asked for."""
        # 2.0**1024 overflows long after the pause has stopped growing.
        pause_s = min(self._last_s, self._first_s * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return max(at_least_s, pause_s * rng.uniform(0.5, 1.0))

    def succeeded(self) -> None:
        self._failures = 0


def jittered(period_s: float, rng: Random) -> float:
    return period_s * rng.uniform(1.0 - JITTER, 1.0 + JITTER)
