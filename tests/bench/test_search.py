"""The searches of the experiments find what is best with few simulations."""

import pytest
from decisions.arrivals import matched_means, poisson
from decisions.search import best_place, highest_rate


@pytest.mark.parametrize("bears", [3.0, 70.0, 80.0, 333.0])
def test_the_rate_is_found_within_three_per_cent(bears: float) -> None:
    tried = []

    def meets(rate: float) -> bool:
        tried.append(rate)
        return rate <= bears

    assert bears / 1.03 <= highest_rate(meets, 80.0) <= bears
    assert len(tried) < 25


def test_a_rate_that_does_not_beat_the_floor_is_tried_once() -> None:
    tried = []

    def meets(rate: float) -> bool:
        tried.append(rate)
        return rate <= 100.0

    assert highest_rate(meets, 80.0, floor=99.0) == 0.0
    assert tried == [pytest.approx(99.0 * 1.03)]


def test_limits_that_no_rate_meets_give_zero() -> None:
    assert highest_rate(lambda rate: rate < 0, 80.0) == 0.0


@pytest.mark.parametrize("best", [0, 3, 17, 41, 84])
def test_the_best_place_is_found_wherever_it_is(best: int) -> None:
    asked: list[int] = []

    def rate_of(place: int, floor: float) -> float:
        asked.append(place)
        rate = 100.0 - abs(place - best)
        return rate if rate > floor else 0.0

    everywhere = range(85)
    assert best_place(everywhere[5::10], everywhere, rate_of, (5, 2, 1)) == (best, 100.0)
    assert len(asked) < 30


def test_equal_seeds_bring_the_same_requests_closer_together() -> None:
    lengths = [(number, 2 * number) for number in range(1, 50)]
    slow, fast = (poisson(lengths, rate, 200, seed=4) for rate in (1.0, 4.0))
    assert [r.prompt_tokens for r in slow] == [r.prompt_tokens for r in fast]
    assert fast[-1].arrival_s == pytest.approx(slow[-1].arrival_s / 4)
    assert {r.arrival_s for r in poisson(lengths, 0.0, 20, seed=4)} == {0.0}


def test_lengths_are_stretched_to_means_below_a_limit() -> None:
    lengths = [(prompt, output) for prompt in range(100, 4000, 100) for output in (20, 100, 400)]
    matched = matched_means(lengths, 755.5, 200.3, 2048)
    assert sum(p for p, _ in matched) / len(matched) == pytest.approx(755.5, rel=0.01)
    assert sum(o for _, o in matched) / len(matched) == pytest.approx(200.3, rel=0.01)
    assert max(map(sum, matched)) < 2048
    with pytest.raises(ValueError, match="no stretch"):
        matched_means([(1000, 1000)], 755.5, 200.3, 500)
