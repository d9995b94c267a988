"""Figures of a simulation, added up as requests end: memory does not grow with their number."""

from collections.abc import Mapping

from pointsman.core.slo import Slo
from pointsman.core.units import PS_PER_S, to_ps
from pointsman.sim.report import WARM_UP_SHARE, Distribution, Latencies, Outcome
from pointsman.sim.simulation.quantiles import COARSE_BITS, PsHistogram

MOST_ERRORS = 100
OTHER_ERRORS = "other errors"


class StreamedFigures:
    """Implements `report.Measured`; all times in integer picoseconds."""

    __slots__ = ("done", "e2e", "first_arrival_ps", "gaps", "good", "last_end_ps", "others", "tpot", "ttft")

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
        self, arrived_ps: int, first_token_ps: int, ended_ps: int, output_tokens: int, slo: Slo
    ) -> None:
        self.done += 1  # counted apart: hashing an enum's member takes longer than all the rest
        self._spread(arrived_ps, ended_ps)
        ttft_ps = first_token_ps - arrived_ps
        self.ttft.add(ttft_ps)
        self.e2e.add(ended_ps - arrived_ps)
        met = slo.ttft_s is None or ttft_ps <= to_ps(slo.ttft_s)
        if output_tokens > 1:
            answer_ps = ended_ps - first_token_ps
            self.tpot.add((answer_ps + (output_tokens - 1) // 2) // (output_tokens - 1))
            met = met and (slo.tpot_s is None or answer_ps <= to_ps(slo.tpot_s) * (output_tokens - 1))
        self.good += met

    def merge(self, other: "StreamedFigures") -> None:
        """Add what another holds."""
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
