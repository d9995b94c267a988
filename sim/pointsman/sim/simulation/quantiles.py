"""Quantiles of any number of durations in bounded memory and in integers alone: the same on every machine."""

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
        self.counts: dict[int, int] = {}
        self.count = 0
        self.sum_ps = 0
        self.max_ps = 0

    def add(self, duration_ps: int, times: int = 1) -> None:
        """Count a duration >= 0, `times` times."""
        bits = self._bits
        shift = duration_ps.bit_length() - bits - 1
        bucket = (shift << bits) + (duration_ps >> shift) if shift > 0 else duration_ps
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + times
        self.count += times
        self.sum_ps += duration_ps * times
        self.max_ps = max(self.max_ps, duration_ps)

    def add_rising(self, first_ps: int, step_ps: int, durations: int, times: int) -> None:
        """Count `durations` durations, each `step_ps` >= 0 longer than the one before, `times` times each.

        Those that hardly differ are counted in one bucket; sum and maximum stay exact.
        """
        sum_ps = self.sum_ps + times * (durations * first_ps + step_ps * (durations * (durations - 1) // 2))
        last_ps = first_ps + step_ps * (durations - 1)
        width = max(1, (first_ps >> self._bits + 1) // step_ps) if step_ps else durations
        while durations > 0:
            together = min(width, durations)
            self.add(first_ps + step_ps * (together - 1) // 2, together * times)
            first_ps += step_ps * together
            durations -= together
        self.sum_ps = sum_ps
        self.max_ps = max(self.max_ps, last_ps)

    def merge(self, other: "PsHistogram") -> None:
        """Add what another holds."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.sum_ps += other.sum_ps
        self.max_ps = max(self.max_ps, other.max_ps)

    def quantile_s(self, per_cent: int) -> float:
        """The duration that so many per cent of all do not exceed: the middle of its bucket; 0 when there are none."""
        if not self.count:
            return 0.0
        rank = max(1, -(-self.count * per_cent // 100))
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return min(self._middle_ps(bucket), self.max_ps) / PS_PER_S
        return self.max_ps / PS_PER_S

    @property
    def mean_s(self) -> float:
        return self.sum_ps / self.count / PS_PER_S if self.count else 0.0

    @property
    def max_s(self) -> float:
        return self.max_ps / PS_PER_S

    def _middle_ps(self, bucket: int) -> int:
        bits = self._bits
        if bucket < 2 << bits:
            return bucket
        shift = (bucket >> bits) - 1
        leading = bucket - (shift << bits)
        return (leading << shift) + (1 << (shift - 1))
