"""What counts, what does not, and that the report says it in the agreed words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.slo import Slo
from pointsman.sim.histogram import DurationHistogram
from pointsman.sim.report import (
    ClusterFigures,
    Measurements,
    Outcome,
    Report,
    RequestResult,
    RunCourse,
    RunFacts,
)

SLO = Slo(ttft_s=1.0, tpot_s=0.1)
FACTS = RunFacts(trace="t.csv", slo=SLO, slo_rule="TTFT <= 1 s, TPOT <= 0.1 s")


def answer(arrival_s: float, ttft_s: float = 0.5, tpot_s: float = 0.05, tokens: int = 11) -> RequestResult:
    first_s = arrival_s + ttft_s
    last_s = first_s + tpot_s * (tokens - 1)
    return RequestResult(
        arrival_s,
        last_s,
        Outcome.COMPLETED,
        SLO,
        first_token_s=first_s,
        last_token_s=last_s,
        output_tokens=tokens,
        gaps_s=[tpot_s] * (tokens - 1),
    )


def report_of(results: list[RequestResult], facts: RunFacts = FACTS) -> Report:
    measurements = Measurements(planned=len(results))
    for index, result in enumerate(results):
        measurements.add(index, result)
    return measurements.report(facts, ClusterFigures(), RunCourse(wall_s=2.0))


def test_the_object_has_the_agreed_keys() -> None:
    assert set(report_of([answer(0.0)]).as_json()) >= {
        *("trace", "policy", "predictor", "seed", "pools", "rate_scale", "requests", "completed", "failed"),
        *("rejected", "duration_s", "request_rate", "goodput", "slo", "ttft_s", "tpot_s", "itl_s", "e2e_s"),
        *("makespan_s", "prefix_hit_rate", "preemptions", "migrations", "instance_seconds", "wall_s"),
        *("simulated_requests_per_s", "speed"),
    }
    figures = report_of([answer(0.0)]).as_json()
    assert set(figures["slo"]) >= {"ttft_s", "tpot_s", "attainment"}
    assert set(figures["itl_s"]) == {"mean", "p50", "p90", "p99", "max"}


def test_the_first_tenth_warms_up() -> None:
    slow = answer(0.0, ttft_s=100.0)
    report = report_of([slow, slow, *(answer(10.0 + i) for i in range(18))])
    assert (report.requests, report.completed) == (18, 18)
    assert report.ttft_s.max == pytest.approx(0.5)
    assert report.slo.attainment == 1.0
    assert report.duration_s == pytest.approx(27.0 + 1.0 - 10.0)
    assert report.goodput == pytest.approx(18 / report.duration_s)
    assert report.makespan_s == pytest.approx(100.5)
    assert report.simulated_requests_per_s == 10.0


def test_an_interrupted_run_is_reported_whole() -> None:
    measurements = Measurements(planned=100)
    for index in range(5):
        measurements.add(index, answer(float(index)))
    course = RunCourse(wall_s=2.0, interrupted=True)
    report = measurements.report(FACTS, ClusterFigures(), course)
    assert (report.requests, report.completed, report.slo.attainment) == (5, 5, 1.0)
    assert report.itl_s.mean == pytest.approx(0.05)
    assert report.duration_s == report.makespan_s == 5.0
    assert measurements.figures(whole=False).requests == 0


def test_attainment_is_of_what_was_offered() -> None:
    lost = [RequestResult(1.0, 2.0, outcome, SLO) for outcome in list(Outcome)[1:]]
    report = report_of([answer(0.0), *lost])
    assert (report.completed, report.failed, report.rejected, report.unfinished) == (1, 1, 1, 1)
    assert report.slo.attainment == 0.25


@pytest.mark.parametrize(
    ("name", "result", "attainment"),
    [
        ("both met", answer(0.0), 1.0),
        ("just met", answer(0.0, ttft_s=1.0), 1.0),
        ("ttft missed", answer(0.0, ttft_s=1.1), 0.0),
        ("tpot missed", answer(0.0, tpot_s=0.2), 0.0),
        ("one token meets tpot", answer(0.0, tokens=1), 1.0),
        ("one late token", answer(0.0, ttft_s=2.0, tokens=1), 0.0),
        ("completed without a token", RequestResult(0.0, 0.1, Outcome.COMPLETED, SLO), 0.0),
    ],
)
def test_an_slo_is_met_when_ttft_and_tpot_are(name: str, result: RequestResult, attainment: float) -> None:
    assert report_of([result]).slo.attainment == attainment, name


def test_without_a_promise_there_is_no_attainment_and_no_goodput() -> None:
    report = report_of([answer(0.0)], RunFacts(trace="t.csv"))
    assert report.goodput is None
    assert report.slo.attainment is None
    assert report.ttft_s.mean == pytest.approx(0.5)


def test_an_empty_run_reports_nothing_rather_than_zero() -> None:
    report = report_of([])
    assert report.ttft_s.mean is None
    assert report.slo.attainment is None
    assert report.requests == 0


def test_answers_without_tokens_or_second_tokens_are_in_no_distribution_of_them() -> None:
    report = report_of([RequestResult(0.0, 3.0, Outcome.COMPLETED), answer(0.0, tokens=1)])
    assert report.ttft_s.max == pytest.approx(0.5)
    assert report.tpot_s.mean is None
    assert report.itl_s.mean is None
    assert report.e2e_s.max == 3.0


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200), st.floats(0, 1))
def test_a_histogram_quantile_is_that_of_the_sorted_values(durations: list[float], share: float) -> None:
    histogram = DurationHistogram()
    histogram.add(durations)
    ranked = sorted(durations)
    exact = ranked[max(0, -int(-share * len(ranked) // 1) - 1)]
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.001)
    assert histogram.max_s == max(durations)
    assert histogram.mean_s == pytest.approx(sum(durations) / len(durations))


def test_a_histogram_of_nothing_is_zero_and_extremes_are_kept_in_bounds() -> None:
    histogram = DurationHistogram()
    histogram.add([])
    assert (histogram.quantile(0.5), histogram.mean_s) == (0.0, 0.0)
    histogram.add([0.0, 1e9])
    assert histogram.quantile(0.1) == pytest.approx(1e-7, rel=0.001)
    assert histogram.max_s == 1e9
