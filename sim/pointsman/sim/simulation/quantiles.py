"""Quantiles of any number of durations in bounded memory and in integers alone: the same on every machine.

Durations come many at once: numpy then takes a tenth of the time that a loop would, and integers add up alike in any
order.
"""

import numpy as np

from pointsman.core.slots import IntArray
from pointsman.core.units import PS_PER_S

FINE_BITS = 11
"""A bucket is at most 1/2048 of its durations wide, so a quantile is off by at most 0.025%; mean and maximum are exact."""
COARSE_BITS = 8
"""The same with 1/256 and 0.2%."""


class PsHistogram:
    """Counts picoseconds by their leading `bits` + 1 bits."""

    __slots__ = ("_bits", "count", "counts", "max_ps", "sum_ps")

    def __init__(self, bits: int = FINE_BITS) -> None:
        self._bits = bits
        self.counts: IntArray = np.zeros((64 - bits) << bits, np.int64)
        """One for each bucket that 63 bits can fall into."""
        self.count = 0
        self.sum_ps = 0
        self.max_ps = 0

    def add(self, durations_ps: IntArray) -> None:
        """Count durations >= 0, once each."""
        if not len(durations_ps):
            return
        np.add.at(self.counts, self._buckets(durations_ps), 1)
        self.count += len(durations_ps)
        self.sum_ps += _sum(durations_ps, 1)
        self.max_ps = max(self.max_ps, int(durations_ps.max()))

    def add_rising(self, runs: IntArray) -> None:
        """Count the durations of runs, one row of four integers each: the first duration, by how much (>= 0) each is
        longer than the one before, how many there are (> 0), and how many times each counts.

        Durations of a run that hardly differ are counted in one bucket; sum and maximum stay exact.
        """
        if not len(runs):
            return
        first_ps, step_ps, durations, times = runs.T
        total_ps = durations * first_ps + step_ps * (durations * (durations - 1) // 2)
        self.count += int((durations * times).sum())
        self.sum_ps += _sum(total_ps, times)
        self.max_ps = max(self.max_ps, int((first_ps + step_ps * (durations - 1)).max()))
        width = np.where(
            step_ps > 0, np.maximum(1, (first_ps >> self._bits + 1) // np.maximum(1, step_ps)), durations
        )
        parts = -(-durations // width)
        run = np.repeat(np.arange(len(parts)), parts)
        before = (np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)) * width[run]
        together = np.minimum(width[run], durations[run] - before)
        middle_ps = first_ps[run] + step_ps[run] * before + step_ps[run] * (together - 1) // 2
        np.add.at(self.counts, self._buckets(middle_ps), together * times[run])

    def merge(self, other: "PsHistogram") -> None:
        """Add what another holds."""
        self.counts += other.counts
        self.count += other.count
        self.sum_ps += other.sum_ps
        self.max_ps = max(self.max_ps, other.max_ps)

    def quantile_s(self, per_cent: int) -> float:
        """The duration that so many per cent of all do not exceed: the middle of its bucket; 0 when there are none."""
        if not self.count:
            return 0.0
        rank = max(1, -(-self.count * per_cent // 100))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(self._middle_ps(bucket), self.max_ps) / PS_PER_S

    @property
    def mean_s(self) -> float:
        if not self.count:
            return 0.0
        # Sums beyond 2^53 are rounded before they are divided where this is compiled, and after that in Python.
        whole, rest = divmod(self.sum_ps, self.count)
        return (whole + rest / self.count) / PS_PER_S

    @property
    def max_s(self) -> float:
        return self.max_ps / PS_PER_S

    def _buckets(self, durations_ps: IntArray) -> IntArray:
        bits = self._bits
        _, length = np.frexp(durations_ps.astype(np.float64))
        # Above 2^53 a float may be rounded up to the next power of two.
        length = length - (durations_ps < np.int64(1) << np.maximum(length - 1, 0).astype(np.int64))
        shift = np.maximum(length - bits - 1, 0).astype(np.int64)
        return np.asarray((shift << bits) + (durations_ps >> shift), np.int64)

    def _middle_ps(self, bucket: int) -> int:
        bits = self._bits
        if bucket < 2 << bits:
            return bucket
        shift = (bucket >> bits) - 1
        leading = bucket - (shift << bits)
        return (leading << shift) + (1 << (shift - 1))


def _sum(values: IntArray, times: IntArray | int) -> int:
    """Of `values` >= 0, each so many times, exactly, though 64 bits may not hold it."""
    half = 31
    high, low = values >> half, values & ((1 << half) - 1)
    return (int((high * times).sum()) << half) + int((low * times).sum())
