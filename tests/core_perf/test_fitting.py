"""The fit finds the coefficients that made the points, and tells how well it predicts what it has not seen."""

from dataclasses import replace

import pytest

from pointsman.api.fitting import (
    FitError,
    Knees,
    Point,
    errors_by_phase,
    fit,
    fit_jointly,
    left_out_errors,
    relative_error,
)
from pointsman.core.perf import Hinge, IterationCost, Slope
from pointsman.core.units import PS_PER_MS

TRUTH = IterationCost(
    t0_ps=20_000_000_000,
    tp_ps=100_000_000,
    ta_ps=10_000,
    tb_ps=50_000_000,
    tc_ps=500_000,
    t0p_ps=3_000_000_000,
    decode_hinges=(Hinge(32, 200_000_000),),
)
KNEES = Knees(prefill=(256, 2048), decode=(16, 32))
PREFILL = [(n, n * n, 0, 0) for n in (64, 128, 300, 512, 1024, 2048, 4000)]
DECODE = [(0, 0, batch, batch * context) for batch in (1, 8, 24, 40, 64, 96) for context in (100, 900)]


def points(cost: IterationCost) -> list[Point]:
    return [Point(*shape, cost.iteration_ps(*shape) / PS_PER_MS) for shape in PREFILL + DECODE]


def test_points_of_the_form_are_fitted_exactly() -> None:
    found = fit(points(TRUTH), KNEES)
    (hinge,) = found.decode_hinges
    assert hinge.above == 32
    assert hinge.each_ps == pytest.approx(200_000_000)
    assert found.prefill_hinges == ()
    assert found.t0_ps == pytest.approx(TRUTH.t0_ps)
    assert found.t0p_ps == pytest.approx(TRUTH.t0p_ps)
    assert found.t0b_ps == 0
    assert max(relative_error(found, point) for point in points(TRUTH)) < 1e-6


def test_coefficients_are_never_negative() -> None:
    falling = [Point(n, n * n, 0, 0, 100 - n / 100) for n in (10, 100, 1000)]
    cost = fit([*falling, *points(TRUTH)[len(PREFILL) :]], Knees())
    assert (cost.tp_ps, cost.ta_ps) == (0, 0)


def test_errors_are_of_points_left_out() -> None:
    noisy = points(TRUTH)
    noisy[3] = noisy[3]._replace(time_ms=noisy[3].time_ms * 1.5)
    errors = left_out_errors(noisy, KNEES)
    assert errors["prefill"].points == len(PREFILL)
    assert errors["decode"].worst < 1e-6
    assert errors["prefill"].worst > 0.25
    assert errors["prefill"].median <= errors["prefill"].p90 <= errors["prefill"].worst


def test_too_few_points_of_a_phase_are_refused() -> None:
    with pytest.raises(FitError, match="there are 2 of prefill and 12 of decode"):
        fit(points(TRUTH)[len(PREFILL) - 2 :], KNEES)


TOGETHER = IterationCost(
    t0_ps=2_000_000_000,
    tp_ps=0,
    ta_ps=1_000,
    tb_ps=30_000_000,
    tc_ps=40_000,
    t0p_ps=1_000_000_000,
    tn_ps=50_000_000,
    token_slopes=(Slope(0, 300_000_000), Slope(16, 5_000_000), Slope(512, 20_000_000)),
)
SHAPES = [
    *((n * k, k * n * (2 * b + n), 0, 0, k) for n in (20, 90, 700, 3000) for k in (1, 3) for b in (0, 900)),
    *((0, 0, n, n * c, 1) for n in (1, 3, 12, 30, 100, 400, 600) for c in (50, 2000)),
    *((p, p * p, n, n * 300, 1) for p in (40, 500, 2500) for n in (2, 40, 300)),
]


def drawn(cost: IterationCost) -> list[Point]:
    return [
        Point(*shape[:4], cost.iteration_ps(*shape) / PS_PER_MS, prefill_chunks=shape[4]) for shape in SHAPES
    ]


def test_mixed_points_tell_what_the_phases_share() -> None:
    """The curve is concave at first, as a mixture of experts has it, and the phases are told apart."""
    found = fit_jointly(drawn(TOGETHER), (0, 16, 512))
    for tokens in (10, 100, 2000):  # what only one phase costs a token can as well be a cost of both
        both = found.tokens_ps(tokens) + found.tp_ps * tokens
        assert both == pytest.approx(TOGETHER.tokens_ps(tokens), rel=1e-3)
    assert found.t0p_ps == pytest.approx(TOGETHER.t0p_ps, rel=1e-3)
    assert found.tn_ps == pytest.approx(TOGETHER.tn_ps, rel=1e-3)
    assert found.ta_ps == pytest.approx(TOGETHER.ta_ps, rel=1e-3)
    errors = errors_by_phase(found, drawn(TOGETHER))
    assert {phase: error.points for phase, error in errors.items()} == {
        "prefill": 16,
        "decode": 14,
        "mixed": 9,
    }
    assert max(error.worst for error in errors.values()) < 1e-4


def test_phases_that_do_not_mix_are_not_fitted_jointly() -> None:
    with pytest.raises(FitError, match="fewer of mixed"):
        fit_jointly([point for point in drawn(TOGETHER) if point.phase != "mixed"])


def test_time_passes_though_the_points_show_nothing_that_every_iteration_costs() -> None:
    free = replace(TRUTH, t0_ps=0, t0p_ps=0, decode_hinges=())
    assert fit(points(free), Knees()).t0_ps >= 1
    apart = replace(TOGETHER, t0_ps=0, token_slopes=(Slope(0, 300_000_000),))
    assert fit_jointly(drawn(apart), (0,)).t0_ps >= 1
