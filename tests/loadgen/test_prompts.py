"""Prompts have the wanted length, share what the trace shares and nothing else."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pointsman.loadgen.prompts import WORDS, PromptWriter
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest

WRITER = PromptWriter("salt")


def test_every_word_is_four_bytes_with_its_space_and_there_once() -> None:
    assert {len(word.encode()) for word in WORDS} == {4}
    assert len(set(WORDS)) == len(WORDS)


@given(st.integers(1, 100_000), st.integers(0, 10**9))
def test_a_prompt_has_as_many_words_as_tokens_wanted(tokens: int, index: int) -> None:
    prompt = WRITER.write(index, TraceRequest(0.0, tokens, 1))
    assert len(prompt) == 4 * tokens
    assert {prompt[at : at + 4] for at in range(0, min(len(prompt), 4000), 4)} <= set(WORDS)


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """Length of the common prefix."""
    differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.integers(0, 700),
)
def test_prompts_share_as_many_blocks_as_their_ids(one: list[int], other: list[int], more: int) -> None:
    first, second = (
        WRITER.write(index, TraceRequest(0.0, len(ids) * HASH_BLOCK_TOKENS + more, 1, tuple(ids)))
        for index, ids in enumerate((one, other))
    )
    shared_ids = common(one, other)
    shared_tokens = common(first, second) / 4
    assert shared_ids * HASH_BLOCK_TOKENS <= shared_tokens < shared_ids * HASH_BLOCK_TOKENS + 16


def test_the_last_block_may_be_partial() -> None:
    short = WRITER.write(0, TraceRequest(0.0, 600, 1, (1, 2)))
    whole = WRITER.write(1, TraceRequest(0.0, 1024, 1, (1, 2)))
    assert len(short) == 2400
    assert whole.startswith(short)


def test_requests_without_ids_share_nothing_and_runs_neither() -> None:
    request = TraceRequest(0.0, 5_000, 1)
    runs = PromptWriter("a"), PromptWriter("b")
    starts = {run.write(index, request)[:64] for run in runs for index in range(500)}
    assert len(starts) == 1000


def test_one_run_writes_the_same_block_each_time_and_another_run_does_not() -> None:
    request = TraceRequest(0.0, 512, 1, (7,))
    assert PromptWriter("a").write(0, request) == PromptWriter("a").write(9, request)
    assert PromptWriter("a").write(0, request) != PromptWriter("b").write(0, request)


def test_a_traces_own_prompt_is_used() -> None:
    assert WRITER.write(0, TraceRequest(0.0, 5, 1, (1,), prompt="as it was")) == "as it was"
