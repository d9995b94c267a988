"""From what became of each offered request to the one report that `simulate` and `replay` give.

Pure: nothing here knows whether the requests were simulated or sent. Memory is a few numbers per request; gaps
between tokens are held in a histogram.

The first tenth of the offered requests warms up and is in no figure but `makespan_s`, `wall_s` and
`simulated_requests_per_s`, which speak of the whole run. `duration_s` is the time from the first measured arrival to
the end of the last measured request; `request_rate` (completed) and `goodput` are per second of it.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

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
class SloFigures:
    ttft_s: float | None
    tpot_s: float | None
    attainment: float | None
    rule: str | None


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

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Measurements:
    """Takes results in any order; `planned` requests are to be offered, a tenth of them to warm up."""

    planned: int
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    """Of the measured requests."""
    good: int = 0
    _ttft_s: "array[float]" = field(default_factory=lambda: array("d"))
    _tpot_s: "array[float]" = field(default_factory=lambda: array("d"))
    _e2e_s: "array[float]" = field(default_factory=lambda: array("d"))
    _itl: DurationHistogram = field(default_factory=DurationHistogram)
    _all: int = 0
    _first_s: float | None = None
    _measured_first_s: float | None = None
    _end_s: float = 0.0
    _measured_end_s: float = 0.0

    @property
    def warm_up(self) -> int:
        return int(self.planned * WARM_UP_SHARE)

    @property
    def duration_s(self) -> float:
        """From the first measured arrival to the end of the last measured request so far."""
        return self._measured_end_s - (self._measured_first_s or 0.0)

    @property
    def mean_ttft_s(self) -> float | None:
        return sum(self._ttft_s) / len(self._ttft_s) if self._ttft_s else None

    def add(self, index: int, result: RequestResult) -> None:
        """`index` is the request's place in the order of arrival, from 0."""
        self._all += 1
        self._first_s = _earlier(self._first_s, result.arrival_s)
        self._end_s = max(self._end_s, result.end_s)
        if index < self.warm_up:
            return
        self._measured_first_s = _earlier(self._measured_first_s, result.arrival_s)
        self._measured_end_s = max(self._measured_end_s, result.end_s)
        self.outcomes[result.outcome] += 1
        self.good += result.meets_slo
        if result.outcome is not Outcome.COMPLETED:
            return
        self._e2e_s.append(result.end_s - result.arrival_s)
        if result.ttft_s is not None:
            self._ttft_s.append(result.ttft_s)
        if result.tpot_s is not None:
            self._tpot_s.append(result.tpot_s)
        self._itl.add(result.gaps_s)

    def report(self, facts: RunFacts, cluster: ClusterFigures, course: RunCourse) -> Report:
        requests = sum(self.outcomes.values())
        duration_s = self.duration_s
        promised = facts.slo_rule is not None
        return Report(
            trace=facts.trace,
            policy=facts.policy,
            predictor=facts.predictor,
            seed=facts.seed,
            pools=facts.pools,
            rate_scale=facts.rate_scale,
            speed=facts.speed,
            requests=requests,
            completed=self.outcomes[Outcome.COMPLETED],
            failed=self.outcomes[Outcome.FAILED],
            rejected=self.outcomes[Outcome.REJECTED],
            unfinished=self.outcomes[Outcome.UNFINISHED],
            duration_s=duration_s,
            request_rate=_per(self.outcomes[Outcome.COMPLETED], duration_s),
            goodput=_per(self.good, duration_s) if promised else None,
            slo=SloFigures(
                ttft_s=facts.slo.ttft_s if facts.slo else None,
                tpot_s=facts.slo.tpot_s if facts.slo else None,
                attainment=self.good / requests if promised and requests else None,
                rule=facts.slo_rule,
            ),
            ttft_s=distribution(self._ttft_s),
            tpot_s=distribution(self._tpot_s),
            itl_s=_of_histogram(self._itl),
            e2e_s=distribution(self._e2e_s),
            makespan_s=self._end_s - (self._first_s or 0.0),
            prefix_hit_rate=cluster.prefix_hit_rate,
            preemptions=cluster.preemptions,
            migrations=cluster.migrations,
            instance_seconds=cluster.instance_seconds,
            wall_s=course.wall_s,
            simulated_requests_per_s=self._all / course.wall_s if course.wall_s > 0 else None,
            engine_lag=cluster.engine_lag,
            client_lag_s=course.client_lag_s,
            interrupted=course.interrupted,
            marks=course.marks,
            errors=course.errors,
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


def _earlier(known_s: float | None, other_s: float) -> float:
    return other_s if known_s is None else min(known_s, other_s)


def _per(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
