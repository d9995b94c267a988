"""Quantiles of any number of durations in bounded memory."""

import math
from collections.abc import Sequence

import numpy as np

LEAST_S = 1e-7
MOST_S = 1e6
RESOLUTION = 0.001
"""A bucket is 0.1% wide, so a quantile is off by at most 0.05%; mean and maximum are exact."""
_LOG_WIDTH = math.log1p(RESOLUTION)
_BUCKETS = math.ceil(math.log(MOST_S / LEAST_S) / _LOG_WIDTH) + 1


class DurationHistogram:
    """Logarithmic buckets from 0.1 us to 11 days; what is shorter or longer counts as the bound."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.sum_s = 0.0
        self.count = 0
        self.max_s = 0.0

    def add(self, durations_s: Sequence[float]) -> None:
        if not durations_s:
            return
        values = np.asarray(durations_s, dtype=np.float64)
        buckets = (np.log(np.clip(values, LEAST_S, MOST_S) / LEAST_S) / _LOG_WIDTH).astype(np.int64)
        np.add.at(self.counts, buckets, 1)
        self.sum_s += float(values.sum())
        self.count += len(values)
        self.max_s = max(self.max_s, float(values.max()))

    def merge(self, other: "DurationHistogram") -> None:
        """Add what another holds."""
        self.counts += other.counts
        self.sum_s += other.sum_s
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The duration that `share` of all do not exceed; 0 when there are none."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(self.max_s, LEAST_S * math.exp((bucket + 0.5) * _LOG_WIDTH))
