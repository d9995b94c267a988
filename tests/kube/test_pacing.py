"""Pauses between tries."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.kube.pacing import Backoff, Timing, jittered


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    backoff, rng = Backoff(0.2, 10.0), Random(1)
    for nominal_s in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0):
        assert nominal_s / 2 <= backoff.failed(rng) <= nominal_s
    backoff.succeeded()
    assert backoff.failed(rng) <= 0.2


def test_what_the_server_asks_for_is_the_least() -> None:
    assert Backoff(0.1, 1.0).failed(Random(1), at_least_s=30.0) == 30.0


@given(st.integers(0, 5000), st.integers())
def test_no_number_of_failures_makes_it_endless(failures: int, seed: int) -> None:
    backoff, rng = Backoff(0.1, 7.0), Random(seed)
    for _ in range(failures):
        backoff.failed(rng)
    assert 0 < backoff.failed(rng) <= 7.0


@given(st.floats(0.01, 1e6), st.integers())
def test_periods_vary_by_a_tenth(period_s: float, seed: int) -> None:
    assert 0.89 * period_s <= jittered(period_s, Random(seed)) <= 1.11 * period_s


@pytest.mark.parametrize("wrong", [{"relist_s": 0}, {"idle_s": -1}, {"first_retry_s": 5, "last_retry_s": 1}])
def test_timings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"periods must|pause between"):
        Timing(**wrong)
