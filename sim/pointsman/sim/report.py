"""From what became of each offered request to the one report that `simulate` and `replay` give.

Pure: nothing here knows whether the requests were simulated or sent. Memory is a few numbers per request; gaps
between tokens are held in a histogram.

The first tenth of the offered requests warms up and is in no figure but `makespan_s`, `wall_s` and
`simulated_requests_per_s`, which speak of the whole run; an interrupted run is reported whole. `duration_s` is the time from the first measured arrival to
the end of the last measured request; `request_rate` (completed) and `goodput` are per second of it.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from pointsman.core.slo import Slo
from pointsman.sim.histogram import DurationHistogram

WARM_UP_SHARE = 0.1
QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


class Outcome(StrEnum):
    """What became of an offered request."""

    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    """Refused by admission: clearly, and before it had cost anything."""
    UNFINISHED = "unfinished"
    """Still running when the run was interrupted."""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """One offered request, times in seconds on the workload's clock."""

    arrival_s: float
    end_s: float
    outcome: Outcome
    slo: Slo | None = None
    """None: nothing was promised."""
    first_token_s: float | None = None
    last_token_s: float | None = None
    output_tokens: int = 0
    gaps_s: Sequence[float] = ()
    """Between consecutive tokens."""

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None for an answer of one token."""
        if self.first_token_s is None or self.last_token_s is None or self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)

    @property
    def meets_slo(self) -> bool:
        ttft_s = self.ttft_s
        if self.outcome is not Outcome.COMPLETED or ttft_s is None or self.slo is None:
            return False
        return self.slo.met(ttft_s, self.tpot_s)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the figures are figures of. None: not known to who ran it."""

    trace: str
    policy: str | None = None
    predictor: str | None = None
    seed: int = 0
    pools: str | None = None
    rate_scale: float = 1.0
    speed: float | None = None
    """How much faster than real time engines and arrivals ran; times are multiplied back. None: simulated."""
    slo: Slo | None = None
    """The limits where they are the same for all requests."""
    slo_rule: str | None = None
    """The limits in words. None: nothing was promised, so there is no attainment and no goodput."""


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """What the cluster, not its clients, knows of the run. None: nobody could be asked."""

    prefix_hit_rate: float | None = None
    preemptions: int | None = None
    migrations: int | None = None
    instance_seconds: float | None = None
    engine_lag: float | None = None
    """How much later than by the engines' virtual clocks iterations ended, as a share of the mean TTFT: the host's fault."""


@dataclass(frozen=True, slots=True)
class RunCourse:
    """How the run itself went."""

    wall_s: float
    interrupted: bool = False
    client_lag_s: float | None = None
    """99th percentile of how late requests were sent, seconds of wall time."""
    marks: tuple[str, ...] = ()
    """What a reader must know before believing the figures."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Why requests failed or were rejected, warm-up included."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """None throughout where there is nothing to measure."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of completed requests."""

    ttft_s: Distribution
    tpot_s: Distribution
    itl_s: Distribution
    e2e_s: Distribution


@dataclass(frozen=True, slots=True)
class SloFigures:
    ttft_s: float | None
    tpot_s: float | None
    attainment: float | None
    rule: str | None


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """Of all programs but the first tenth."""

    programs: int
    completed: int
    failed: int
    """A call of theirs was rejected or failed."""
    response_s: Distribution
    """From a program's arrival to the end of its last call, tools included; of completed ones."""
    per_token_s: Distribution
    """The same by all the tokens that the program generated."""
    deadline_attainment: float | None
    """Share of those with a deadline that completed in time; None: none had one."""


@dataclass(frozen=True, slots=True)
class Report:
    """Field by field the JSON object; all times in seconds on the workload's clock, `wall_s` and lags apart."""

    trace: str
    policy: str | None
    predictor: str | None
    seed: int
    pools: str | None
    rate_scale: float
    speed: float | None
    requests: int
    completed: int
    failed: int
    rejected: int
    unfinished: int
    duration_s: float
    request_rate: float
    goodput: float | None
    slo: SloFigures
    ttft_s: Distribution
    tpot_s: Distribution
    itl_s: Distribution
    e2e_s: Distribution
    makespan_s: float
    prefix_hit_rate: float | None
    preemptions: int | None
    migrations: int | None
    instance_seconds: float | None
    wall_s: float
    simulated_requests_per_s: float | None
    engine_lag: float | None
    client_lag_s: float | None
    interrupted: bool
    marks: tuple[str, ...]
    errors: Mapping[str, int]
    programs: ProgramReport | None = None
    """None, and not in the JSON object: the workload had none."""

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        if self.programs is None:
            del values["programs"]
        return values


@dataclass(slots=True)
class Figures:
    """Sums and distributions of the requests that were added."""

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    good: int = 0
    ttft_s: "array[float]" = field(default_factory=lambda: array("d"))
    tpot_s: "array[float]" = field(default_factory=lambda: array("d"))
    e2e_s: "array[float]" = field(default_factory=lambda: array("d"))
    """Of completed requests, as the other two and the gaps."""
    gaps: DurationHistogram = field(default_factory=DurationHistogram)
    first_arrival_s: float = math.inf
    last_end_s: float = -math.inf

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last end."""
        return max(0.0, self.last_end_s - self.first_arrival_s)

    @property
    def mean_ttft_s(self) -> float | None:
        return sum(self.ttft_s) / len(self.ttft_s) if self.ttft_s else None

    def latencies(self) -> Latencies:
        return Latencies(
            ttft_s=distribution(self.ttft_s),
            tpot_s=distribution(self.tpot_s),
            itl_s=_of_histogram(self.gaps),
            e2e_s=distribution(self.e2e_s),
        )

    def add(self, result: RequestResult) -> None:
        self.outcomes[result.outcome] += 1
        self.good += result.meets_slo
        self.first_arrival_s = min(self.first_arrival_s, result.arrival_s)
        self.last_end_s = max(self.last_end_s, result.end_s)
        if result.outcome is not Outcome.COMPLETED:
            return
        self.e2e_s.append(result.end_s - result.arrival_s)
        if result.ttft_s is not None:
            self.ttft_s.append(result.ttft_s)
        if result.tpot_s is not None:
            self.tpot_s.append(result.tpot_s)
        self.gaps.add(result.gaps_s)

    def merge(self, other: "Figures") -> None:
        """Add what another holds."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count
        self.good += other.good
        self.ttft_s += other.ttft_s
        self.tpot_s += other.tpot_s
        self.e2e_s += other.e2e_s
        self.gaps.merge(other.gaps)
        self.first_arrival_s = min(self.first_arrival_s, other.first_arrival_s)
        self.last_end_s = max(self.last_end_s, other.last_end_s)


@dataclass(slots=True)
class Measurements:
    """Takes results in any order; `planned` requests are to be offered, a tenth of them to warm up."""

    planned: int
    _warming: Figures = field(default_factory=Figures)
    _measured: Figures = field(default_factory=Figures)

    @property
    def warm_up(self) -> int:
        return int(self.planned * WARM_UP_SHARE)

    def add(self, index: int, result: RequestResult) -> None:
        """`index` is the request's place in the order of arrival, from 0."""
        (self._warming if index < self.warm_up else self._measured).add(result)

    def figures(self, *, whole: bool) -> Figures:
        """Of the requests after the warm-up, or of all: an interrupted run may have nothing else."""
        figures = Figures()
        figures.merge(self._measured)
        if whole:
            figures.merge(self._warming)
        return figures

    def report(self, facts: RunFacts, cluster: ClusterFigures, course: RunCourse) -> Report:
        everything = self.figures(whole=True)
        figures = everything if course.interrupted else self.figures(whole=False)
        return make_report(figures, everything, facts, cluster, course)


class Measured(Protocol):
    """What a report says of some requests."""

    @property
    def requests(self) -> int: ...
    @property
    def outcomes(self) -> Mapping[Outcome, int]: ...
    @property
    def good(self) -> int:
        """Requests that met their SLO."""

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last end."""

    def latencies(self) -> Latencies: ...


def make_report(
    figures: Measured,
    everything: Measured,
    facts: RunFacts,
    cluster: ClusterFigures,
    course: RunCourse,
    programs: ProgramReport | None = None,
) -> Report:
    """`figures` are those of the measured requests, `everything` those of all."""
    promised = facts.slo_rule is not None
    latencies = figures.latencies()
    return Report(
        trace=facts.trace,
        policy=facts.policy,
        predictor=facts.predictor,
        seed=facts.seed,
        pools=facts.pools,
        rate_scale=facts.rate_scale,
        speed=facts.speed,
        requests=figures.requests,
        completed=figures.outcomes[Outcome.COMPLETED],
        failed=figures.outcomes[Outcome.FAILED],
        rejected=figures.outcomes[Outcome.REJECTED],
        unfinished=figures.outcomes[Outcome.UNFINISHED],
        duration_s=figures.duration_s,
        request_rate=_per(figures.outcomes[Outcome.COMPLETED], figures.duration_s),
        goodput=_per(figures.good, figures.duration_s) if promised else None,
        slo=SloFigures(
            ttft_s=facts.slo.ttft_s if facts.slo else None,
            tpot_s=facts.slo.tpot_s if facts.slo else None,
            attainment=figures.good / figures.requests if promised and figures.requests else None,
            rule=facts.slo_rule,
        ),
        ttft_s=latencies.ttft_s,
        tpot_s=latencies.tpot_s,
        itl_s=latencies.itl_s,
        e2e_s=latencies.e2e_s,
        makespan_s=everything.duration_s,
        prefix_hit_rate=cluster.prefix_hit_rate,
        preemptions=cluster.preemptions,
        migrations=cluster.migrations,
        instance_seconds=cluster.instance_seconds,
        wall_s=course.wall_s,
        simulated_requests_per_s=everything.requests / course.wall_s if course.wall_s > 0 else None,
        engine_lag=cluster.engine_lag,
        client_lag_s=course.client_lag_s,
        interrupted=course.interrupted,
        marks=course.marks,
        errors=course.errors,
        programs=programs,
    )


def distribution(durations_s: Sequence[float]) -> Distribution:
    if not len(durations_s):
        return Distribution()
    values = np.asarray(durations_s, dtype=np.float64)
    p50, p90, p99 = (float(value) for value in np.quantile(values, list(QUANTILES.values())))
    return Distribution(float(values.mean()), p50, p90, p99, float(values.max()))


def _of_histogram(histogram: DurationHistogram) -> Distribution:
    if not histogram.count:
        return Distribution()
    quantiles = {name: histogram.quantile(share) for name, share in QUANTILES.items()}
    return Distribution(mean=histogram.mean_s, max=histogram.max_s, **quantiles)


def _per(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
