"""Figures of a simulation, added up as requests end: memory does not grow with their number."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from pointsman.core.slo import Slo
from pointsman.core.slots import IntArray, PerSlot, vector, zeros
from pointsman.core.units import PS_PER_S, to_ps
from pointsman.sim.report import WARM_UP_SHARE, Distribution, Latencies, Outcome
from pointsman.sim.simulation.quantiles import COARSE_BITS, PsHistogram

MOST_ERRORS = 100
OTHER_ERRORS = "other errors"
MOST_UNSETTLED: Final = 5_000
"""Rows kept before they are added up."""


NO_LIMIT_PS: Final = 1 << 62


class Limits(NamedTuple):
    """A request's SLO in picoseconds."""

    ttft_ps: int
    tpot_ps: int

    @classmethod
    def of(cls, slo: Slo) -> "Limits":
        return cls(
            NO_LIMIT_PS if slo.ttft_s is None else min(NO_LIMIT_PS, to_ps(slo.ttft_s)),
            NO_LIMIT_PS if slo.tpot_s is None else min(NO_LIMIT_PS, to_ps(slo.tpot_s)),
        )


class Rows:
    """Rows of 64-bit integers, written one by one and read as one matrix: reading a list of Python's integers would take
    longer than adding them up.
    """

    __slots__ = ("_columns", "_end", "values")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._end = 0
        self.values: PerSlot = zeros(MOST_UNSETTLED * columns)

    def next(self) -> int:
        """Where the next row begins; not asked for when they are `full`."""
        begin = self._end
        self._end = begin + self._columns
        return begin

    @property
    def full(self) -> bool:
        return self._end == MOST_UNSETTLED * self._columns

    def taken(self) -> IntArray:
        """All rows, to be read before others come: from now on there are none."""
        rows = vector(self.values)[: self._end].reshape(-1, self._columns)
        self._end = 0
        return rows


class StreamedFigures:
    """Implements `report.Measured`; all times in integer picoseconds.

    What is told is added up some thousand at a time, and by `settle` before it is read.
    """

    __slots__ = (
        "_answers",
        "_runs",
        "done",
        "e2e",
        "first_arrival_ps",
        "gaps",
        "good",
        "last_end_ps",
        "others",
        "tpot",
        "ttft",
    )

    def __init__(self) -> None:
        self.done = 0
        self.others: dict[Outcome, int] = {}
        self.good = 0
        self.ttft = PsHistogram()
        self.tpot = PsHistogram()
        self.e2e = PsHistogram()
        self.gaps = PsHistogram(COARSE_BITS)
        self.first_arrival_ps = -1
        self.last_end_ps = 0
        self._answers = Rows(6)
        """Arrival, first token, end, tokens, and the two limits."""
        self._runs = Rows(4)
        """As `PsHistogram.add_rising` reads them."""

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        others = {outcome: self.others.get(outcome, 0) for outcome in Outcome}
        return {**others, Outcome.COMPLETED: self.done}

    @property
    def requests(self) -> int:
        return self.done + sum(self.others.values())

    @property
    def duration_s(self) -> float:
        return max(0, self.last_end_ps - max(0, self.first_arrival_ps)) / PS_PER_S

    def latencies(self) -> Latencies:
        return Latencies(
            ttft_s=_distribution(self.ttft),
            tpot_s=_distribution(self.tpot),
            itl_s=_distribution(self.gaps),
            e2e_s=_distribution(self.e2e),
        )

    def offered(self, arrived_ps: int, ended_ps: int, outcome: Outcome) -> None:
        """A request that did not complete."""
        self.others[outcome] = self.others.get(outcome, 0) + 1
        self._spread(arrived_ps, ended_ps)

    def _spread(self, arrived_ps: int, ended_ps: int) -> None:
        if self.first_arrival_ps < 0 or arrived_ps < self.first_arrival_ps:
            self.first_arrival_ps = arrived_ps
        self.last_end_ps = max(self.last_end_ps, ended_ps)

    def completed(
        self, arrived_ps: int, first_token_ps: int, ended_ps: int, output_tokens: int, limits: Limits
    ) -> None:
        rows = self._answers
        values, begin = rows.values, rows.next()
        values[begin] = arrived_ps
        values[begin + 1] = first_token_ps
        values[begin + 2] = ended_ps
        values[begin + 3] = output_tokens
        values[begin + 4] = limits.ttft_ps
        values[begin + 5] = limits.tpot_ps
        if rows.full:
            self.settle()

    def waited(self, first_ps: int, step_ps: int, iterations: int, sequences: int) -> None:
        """Each of some sequences had to wait for a token so long, and in each further iteration a step longer."""
        rows = self._runs
        values, begin = rows.values, rows.next()
        values[begin] = first_ps
        values[begin + 1] = step_ps
        values[begin + 2] = iterations
        values[begin + 3] = sequences
        if rows.full:
            self.settle()

    def settle(self) -> None:
        """Add up what was told."""
        self.gaps.add_rising(self._runs.taken())
        answers = self._answers.taken()
        if not len(answers):
            return
        arrived, first, ended, tokens, ttft_limit, tpot_limit = answers.T
        self.done += len(arrived)
        self._spread(int(arrived.min()), int(ended.max()))
        ttft, answer = first - arrived, ended - first
        self.ttft.add(ttft)
        self.e2e.add(ended - arrived)
        further = np.maximum(1, tokens - 1)
        self.tpot.add(((answer + further // 2) // further)[tokens > 1])
        # A mean of its gaps within the limit: rounded up, so that nothing is multiplied beyond 64 bits.
        good = (ttft <= ttft_limit) & ((tokens == 1) | ((answer + further - 1) // further <= tpot_limit))
        self.good += int(good.sum())

    def merge(self, other: "StreamedFigures") -> None:
        """Add what another holds."""
        other.settle()
        self.done += other.done
        for outcome, count in other.others.items():
            self.others[outcome] = self.others.get(outcome, 0) + count
        self.good += other.good
        self.ttft.merge(other.ttft)
        self.tpot.merge(other.tpot)
        self.e2e.merge(other.e2e)
        self.gaps.merge(other.gaps)
        if other.first_arrival_ps >= 0 and not 0 <= self.first_arrival_ps < other.first_arrival_ps:
            self.first_arrival_ps = other.first_arrival_ps
        self.last_end_ps = max(self.last_end_ps, other.last_end_ps)


class Recorder:
    """The first tenth of the `planned` requests warms up."""

    __slots__ = ("_errors", "measured", "warm_up", "warming")

    def __init__(self, planned: int) -> None:
        self.warm_up = int(planned * WARM_UP_SHARE)
        self.warming = StreamedFigures()
        self.measured = StreamedFigures()
        self._errors: dict[str, int] = {}

    def of(self, index: int) -> StreamedFigures:
        """Where the request of this place in the order of arrival is counted."""
        return self.warming if index < self.warm_up else self.measured

    def settle(self) -> None:
        """Add up what was told: before anything is read."""
        self.warming.settle()
        self.measured.settle()

    def whole(self) -> StreamedFigures:
        whole = StreamedFigures()
        whole.merge(self.warming)
        whole.merge(self.measured)
        return whole

    def error(self, message: str) -> None:
        known = message in self._errors or len(self._errors) < MOST_ERRORS
        name = message if known else OTHER_ERRORS
        self._errors[name] = self._errors.get(name, 0) + 1

    @property
    def errors(self) -> Mapping[str, int]:
        return self._errors


def _distribution(histogram: PsHistogram) -> Distribution:
    if not histogram.count:
        return Distribution()
    return Distribution(
        mean=histogram.mean_s,
        p50=histogram.quantile_s(50),
        p90=histogram.quantile_s(90),
        p99=histogram.quantile_s(99),
        max=histogram.max_s,
    )
