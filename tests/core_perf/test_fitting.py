"""The fit finds the coefficients that made the points, and tells how well it predicts what it has not seen."""

import pytest

from pointsman.api.fitting import FitError, Knees, Point, fit, left_out_errors, relative_error
from pointsman.core.perf import Hinge, IterationCost
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
