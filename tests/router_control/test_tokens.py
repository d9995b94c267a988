"""Tokens estimated from bytes."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.tokens import BOUNDS, TokenEstimate


def test_it_settles_on_the_ratio_it_is_shown() -> None:
    rng, estimate = Random(1), TokenEstimate(0.25)
    for _ in range(400):
        size = rng.randrange(200, 20_000)
        estimate.learn(size, round(size * 0.31 * rng.uniform(0.8, 1.2)) + 20)
    assert abs(estimate.tokens(10_000) / 3_100 - 1) < 0.05


def test_it_follows_a_change_of_traffic() -> None:
    estimate = TokenEstimate(0.25)
    for _ in range(1000):
        estimate.learn(4000, 1000)
    for _ in range(400):
        estimate.learn(4000, 2000)
    assert abs(estimate.tokens(4000) / 2000 - 1) < 0.05


def test_one_odd_request_hardly_moves_it() -> None:
    estimate = TokenEstimate(0.25)
    for _ in range(100):
        estimate.learn(4000, 1000)
    estimate.learn(4000, 4_000_000)
    assert abs(estimate.tokens(4000) / 1000 - 1) < 0.02


def test_it_tells_the_error_it_made() -> None:
    assert TokenEstimate(0.25).learn(4000, 800) == 0.25
    assert TokenEstimate(0.25).learn(0, 800) is None
    assert TokenEstimate(0.25).learn(4000, 0) is None


@given(st.lists(st.tuples(st.integers(-5, 10**9), st.integers(-5, 10**9))))
def test_it_stays_within_bounds(observed: list[tuple[int, int]]) -> None:
    estimate = TokenEstimate()
    for size, tokens in observed:
        estimate.learn(size, tokens)
        assert BOUNDS[0] <= estimate.tokens_per_byte <= BOUNDS[1]
        assert estimate.tokens(max(size, 0)) >= 1
