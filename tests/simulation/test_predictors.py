"""How well predictions rank is what `noisy:TAU` says."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from pointsman.sim.predictors import kendall_tau, make_predictor
from pointsman.sim.workload.request import TraceRequest

short = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=60)


@given(short)
def test_kendalls_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(row) for row in zip(*pairs, strict=True))
    expected = kendalltau(first, second).statistic
    assert kendall_tau(first, second) == pytest.approx(0.0 if np.isnan(expected) else expected)


def many_short(rng: Random) -> int:
    return rng.choice((1, 2, 3, 400, 700, 1500))


def lognormal(rng: Random) -> int:
    return max(1, round(rng.lognormvariate(5, 1)))


@pytest.mark.parametrize("lengths", [many_short, lognormal])
@pytest.mark.parametrize("tau", [0.24, 0.54, 0.74])
@pytest.mark.parametrize(("requests", "off_by"), [(2_000, 0.002), (6_000, 0.02)])
def test_predictions_rank_as_well_as_they_are_told_to(
    lengths: Callable[[Random], int], tau: float, requests: int, off_by: float
) -> None:
    rng = Random(7)
    workload = [TraceRequest(float(number), 10, lengths(rng)) for number in range(requests)]
    predictor = make_predictor(f"noisy:{tau}", workload, seed=3)
    predicted = [predictor.predict(request) for request in workload]
    measured = kendalltau([request.output_tokens for request in workload], predicted).statistic
    assert measured == pytest.approx(tau, abs=off_by)


def test_a_perfect_rank_is_the_truth() -> None:
    workload = [TraceRequest(0.0, 10, tokens) for tokens in (5, 900, 2, 31)]
    predictor = make_predictor("noisy:1", workload, seed=1)
    assert [predictor.predict(request) for request in workload] == [5, 900, 2, 31]
