"""How many programs a second are served at equal latency."""

import pytest
from decisions.agents_table import rate_at


@pytest.mark.parametrize(
    ("name", "limit_s", "rate"),
    [
        ("between two rates, by a straight line", 0.3, 3.0),
        ("at a rate that was played", 0.2, 2.0),
        ("beyond the limit from the lowest rate on", 0.05, 0.0),
        ("never beyond it", 0.5, None),
    ],
)
def test_the_rate_at_a_latency(name: str, limit_s: float, rate: float | None) -> None:
    assert rate_at(limit_s, [1.0, 2.0, 4.0], [0.1, 0.2, 0.4]) == (
        rate if rate is None else pytest.approx(rate)
    ), name
