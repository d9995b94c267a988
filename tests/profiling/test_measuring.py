"""What is read from streams that run beside a prompt."""

import pytest

from pointsman.profiling.measure import Streams, shared_iteration, undisturbed_gap_s
from pointsman.profiling.probe import Seen


def stream(*tokens_s: float, prompt: int = 100) -> Seen:
    return Seen(prompt, 0.0, tokens_s)


def every(gap_s: float, *, since: float, tokens: int) -> tuple[float, ...]:
    return tuple(since + gap_s * place for place in range(tokens))


def test_gaps_count_while_all_streams_run() -> None:
    """The first stream's answer begins beside the second's prompt: its gaps of then are no decode iterations."""
    early = stream(*every(5.0, since=0, tokens=7), *every(1.0, since=31, tokens=8))
    streams = Streams([early, stream(*every(1.0, since=30, tokens=12))])
    assert streams.gap_s == 1.0
    assert streams.together_s == (30, 38)
    assert streams.head_start == 7
    assert streams.context == pytest.approx(100 + (11 + 5) / 2)


def test_streams_that_never_ran_together_tell_nothing() -> None:
    streams = Streams([stream(*every(1.0, since=0, tokens=9)), stream(*every(1.0, since=7, tokens=9))])
    assert streams.gap_s is None
    assert streams.head_start == 8


@pytest.mark.parametrize(
    ("streams", "sent_s", "first_s", "expected"),
    [
        pytest.param([stream(1, 2, 5, 6, 7)], 1.5, 6.5, (3, 102), id="the longest gap meanwhile"),
        pytest.param(
            [stream(0, 1, 2.5, 5.5, 6.5, 7.5)], 1.5, 7.0, (3.5, 103), id="with what it cost in the gap before"
        ),
        pytest.param([stream(0, 4, 5, 7, 8)], 4.5, 7.5, (2, 103), id="a longer one before is not its own"),
        pytest.param([stream(1, 2, 5, 9)], 2.5, 6.0, (3, 102), id="nor is one that goes on behind its token"),
        pytest.param(
            [stream(1, 2, 5, 6), stream(1.1, 2.1, 4.9, 6), stream(1, 2, 5.3, 6)],
            2.0,
            5.5,
            (3, 102),
            id="the median of all streams",
        ),
        pytest.param(
            [stream(0, 1, 2, 5, 6, prompt=10), stream(2, 5, 6, prompt=30)],
            2.5,
            5.5,
            (3, 22),
            id="mean context",
        ),
        pytest.param([stream(1, 2, 5, 6), stream(5, 6, 7)], 2.5, 5.5, None, id="a stream that had not begun"),
        pytest.param([stream(1, 2, 5, 6), stream(1, 2, 5)], 2.5, 5.5, None, id="a stream that had ended"),
        pytest.param([stream(1, 2, 5, 6)], 2.5, 4.5, None, id="no token meanwhile"),
    ],
)
def test_the_iteration_that_a_prompt_shared(
    streams: list[Seen], sent_s: float, first_s: float, expected: tuple[float, float] | None
) -> None:
    found = shared_iteration(streams, Seen(50, sent_s, (first_s,)), 1.0)
    assert found == (pytest.approx(expected) if expected else None)


def test_gaps_in_which_a_prompt_came_or_was_computed_are_not_undisturbed() -> None:
    streams = [stream(*every(1.0, since=0, tokens=4), *every(5.0, since=8, tokens=3), 19, 20)]
    prompts = [Seen(50, 3.5, (9.0,)), Seen(50, 12.9, (18.5,))]
    assert undisturbed_gap_s(streams, prompts) == 1.0
