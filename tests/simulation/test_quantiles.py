"""Many durations counted at once are counted as one after another."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pointsman.sim.simulation.quantiles import PsHistogram

durations = st.one_of(
    st.integers(0, 5000), st.integers(0, 2**62), st.integers(0, 61).map(lambda bits: (1 << bits) - 1)
)
runs = st.tuples(st.integers(1, 10**12), st.integers(0, 10**9), st.integers(1, 300), st.integers(1, 50))


class OneByOne:
    """The definition, in plain Python."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.counts: dict[int, int] = {}

    def add(self, duration_ps: int, times: int) -> None:
        shift = max(0, duration_ps.bit_length() - self.bits - 1)
        bucket = (shift << self.bits) + (duration_ps >> shift)
        self.counts[bucket] = self.counts.get(bucket, 0) + times

    def add_rising(self, first_ps: int, step_ps: int, durations: int, times: int) -> None:
        width = max(1, (first_ps >> self.bits + 1) // step_ps) if step_ps else durations
        while durations:
            together = min(width, durations)
            self.add(first_ps + step_ps * (together - 1) // 2, together * times)
            first_ps += step_ps * together
            durations -= together


def counted(histogram: PsHistogram) -> dict[int, int]:
    return {int(bucket): int(histogram.counts[bucket]) for bucket in np.flatnonzero(histogram.counts)}


@given(st.lists(durations, max_size=40), st.sampled_from((8, 11)))
def test_buckets_hold_the_leading_bits(values: list[int], bits: int) -> None:
    histogram, expected = PsHistogram(bits), OneByOne(bits)
    histogram.add(np.array(values, np.int64))
    for value in values:
        expected.add(value, 1)
    assert counted(histogram) == expected.counts
    assert (histogram.count, histogram.sum_ps) == (len(values), sum(values))
    assert histogram.max_ps == max(values, default=0)


@given(st.lists(runs, max_size=12), st.sampled_from((8, 11)))
def test_runs_of_rising_durations(told: list[tuple[int, int, int, int]], bits: int) -> None:
    histogram, expected = PsHistogram(bits), OneByOne(bits)
    histogram.add_rising(np.array(told, np.int64).reshape(-1, 4))
    every = []
    for first_ps, step_ps, count, times in told:
        expected.add_rising(first_ps, step_ps, count, times)
        every += [first_ps + step_ps * place for place in range(count) for _ in range(times)]
    assert counted(histogram) == expected.counts
    assert (histogram.count, histogram.sum_ps) == (len(every), sum(every))
    assert histogram.max_ps == max(every, default=0)
