"""What is read from streams that run beside a prompt."""

import pytest

from pointsman.profiling.measure import shared_iteration
from pointsman.profiling.probe import Seen


def stream(*tokens_s: float, prompt: int = 100) -> Seen:
    return Seen(prompt, 0.0, tokens_s)


@pytest.mark.parametrize(
    ("streams", "end_s", "expected"),
    [
        pytest.param(
            [stream(1, 2, 5, 6)], 5.1, (3, 102), id="the gap that ends with the prompt's first token"
        ),
        pytest.param(
            [stream(1, 2, 5, 6), stream(1.1, 2.1, 4.9, 6), stream(1, 2, 5.3, 6)],
            5.0,
            (3, 102),
            id="the median of all streams",
        ),
        pytest.param(
            [stream(0, 1, 2, 5, 6, prompt=10), stream(2, 5, 6, prompt=30)], 5.0, (3, 22), id="mean context"
        ),
        pytest.param([stream(1, 2, 5, 6), stream(5, 6, 7)], 5.0, None, id="a stream that had not begun"),
        pytest.param([stream(1, 2, 5, 6), stream(1, 2, 5)], 5.0, None, id="a stream that was at its end"),
    ],
)
def test_the_iteration_that_a_prompt_shared(
    streams: list[Seen], end_s: float, expected: tuple[float, float] | None
) -> None:
    assert shared_iteration(streams, end_s) == (pytest.approx(expected) if expected else None)
