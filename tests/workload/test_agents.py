"""Agent programs have the published statistics and the shapes that are stated."""

from statistics import mean

import pytest

from pointsman.sim.workload.agents import BFCL, DEPTH, LATS, SHAREGPT, WIDTH, AgentKind, AgentPrograms
from pointsman.sim.workload.program import Call, Program
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest, count_requests, measure_extent
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.workflows import MOST_CORRECTIONS, StagedWorkflows

PUBLISHED = {  # mean calls, prefill and decode tokens a call (Autellix)
    SHAREGPT: (6.66, 256, 277),
    BFCL: (10.75, 735, 34),
    LATS: (159.7, 467, 73),
}


def programs(kind: AgentKind, count: int, seed: int = 1) -> list[Program]:
    drawn = [request.program for request in AgentPrograms(kind, count, 1.0, seed=seed)]
    return [program for program in drawn if program is not None]


@pytest.mark.parametrize("kind", PUBLISHED, ids=lambda kind: kind.name)
def test_calls_and_tokens_have_the_published_means(kind: AgentKind) -> None:
    calls, prefill, decode = PUBLISHED[kind]
    drawn = programs(kind, 400 if kind is LATS else 3000)
    assert mean(len(program.calls) for program in drawn) == pytest.approx(calls, rel=0.1)
    every = [call for program in drawn for call in program.calls]
    assert mean(call.output_tokens for call in every) == pytest.approx(decode, rel=0.05)
    firsts = [program.calls[0].prompt_tokens for program in drawn]
    assert mean(firsts) == pytest.approx(prefill, rel=0.15 if kind is LATS else 0.07)


@pytest.mark.parametrize("kind", [SHAREGPT, BFCL], ids=lambda kind: kind.name)
def test_a_chain_repeats_all_that_was_said(kind: AgentKind) -> None:
    for program in programs(kind, 50):
        for place, call in enumerate(program.calls[1:], 1):
            former = program.calls[place - 1]
            assert call.after == (place - 1,)
            assert call.prompt_tokens > former.prompt_tokens + former.output_tokens
            whole = former.prompt_tokens // HASH_BLOCK_TOKENS
            assert call.hash_ids[:whole] == former.hash_ids[:whole]


def test_a_tree_search_goes_in_rounds_that_wait_for_each_other() -> None:
    for program in programs(LATS, 20):
        rounds: dict[tuple[int, ...], int] = {}
        for call in program.calls[1:]:
            rounds[call.after] = rounds.get(call.after, 0) + 1
        assert all(size <= WIDTH for size in rounds.values())
        assert sum(len(after) for after in rounds) >= len(program.calls) - WIDTH
        most = max(call.prompt_tokens for call in program.calls)
        assert most < (DEPTH + 2) * 16_384


def test_programs_share_no_blocks() -> None:
    seen: set[int] = set()
    for program in programs(BFCL, 30):
        own = {hash_id for call in program.calls for hash_id in call.hash_ids}
        assert not own & seen
        seen |= own


def test_a_question_goes_through_four_stages_and_shares_its_schema() -> None:
    workload = StagedWorkflows("sql", 300, 1.0, deadline_s=20.0, seed=1)
    for request in workload:
        program = request.program
        assert program is not None
        assert program.deadline_s == 20.0
        assert len({call.hash_ids[:3] for call in program.calls}) == 1
        assert all(0 < call.deadline_share <= 1 for call in program.calls)
        judging = [call for call in program.calls if call.after == program.calls[-1].after]
        assert all(call.deadline_share == 1.0 for call in judging)
        candidates = [call for call in program.calls if call.after == (0,)]
        assert 3 <= len(candidates) <= 8
        assert len(program.calls) - 1 - len(candidates) - len(judging) <= MOST_CORRECTIONS
    assert len({r.hash_ids[:3] for r in workload}) <= 20


PAIR = Program((Call(600, 5, hash_ids=(0, 1)), Call(700, 6, (0,), 2.0, (0, 2))), 9.0)
WORKLOAD = [
    TraceRequest(0.0, 600, 5, (0, 1), program_id="a", program=PAIR),
    TraceRequest(4.0, 100, 1),
    TraceRequest(8.0, 600, 5, (0, 1), program_id="b", program=PAIR),
]


def test_scaling_moves_beginnings_and_keeps_tools_and_deadlines() -> None:
    scaled = list(RateScaled(WORKLOAD, 8, seed=1))
    assert count_requests(RateScaled(WORKLOAD, 8)) == 10
    assert {request.program_id for request in scaled} == {"", "0/a", "0/b", "1/a", "1/b"}
    for request in scaled:
        if request.program is not None:
            copy = int(request.program_id[0])
            assert [call.hash_ids for call in request.program.calls] == [(copy, 2 + copy), (copy, 4 + copy)]
            assert (request.program.calls[1].tool_s, request.program.deadline_s) == (2.0, 9.0)


@pytest.mark.parametrize(("most", "kept"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (9, 3)])
def test_a_cut_keeps_programs_whole(most: int, kept: int) -> None:
    assert list(Cut(WORKLOAD, most)) == WORKLOAD[:kept]


def test_rates_count_calls_and_periods_count_beginnings() -> None:
    extent = measure_extent(WORKLOAD)
    assert (extent.requests, extent.arrivals, extent.period_s) == (5, 3, 12.0)


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ((), "begins with a call that waits for none"),
        ((Call(1, 1, (0,)),), "begins with a call that waits for none"),
        ((Call(1, 1), Call(1, 1, (2,)), Call(1, 1)), r"call 1 waits for \(2,\)"),
    ],
)
def test_a_program_that_cannot_begin_is_refused(calls: tuple[Call, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Program(calls)
