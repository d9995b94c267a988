"""The time of an iteration: integers, convex, and runs of decode iterations in closed form."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.perf import Hinge, IterationCost, Slope

COST = IterationCost(
    t0_ps=1_000,
    tp_ps=10,
    ta_ps=3,
    tb_ps=20,
    tc_ps=2,
    t0p_ps=100,
    t0b_ps=50,
    prefill_hinges=(Hinge(4, 7),),
    decode_hinges=(Hinge(2, 5), Hinge(3, 1)),
)
TOGETHER = replace(COST, tn_ps=1_000_000, token_slopes=(Slope(0, 40_000), Slope(3, 0), Slope(5, 10_000)))

amounts = st.integers(min_value=0, max_value=10**10)
"""Up to 10 ms a token. Compiled, times are of 64 bits, which are 106 days."""
hinges = st.lists(st.builds(Hinge, st.integers(min_value=1, max_value=300), amounts), max_size=3).map(tuple)
slopes = st.lists(
    st.builds(Slope, st.integers(0, 300), amounts), max_size=4, unique_by=lambda slope: slope.above
).map(lambda found: tuple(sorted(found)))
costs = st.builds(
    IterationCost,
    t0_ps=amounts,
    tp_ps=amounts,
    ta_ps=amounts,
    tb_ps=amounts,
    tc_ps=amounts,
    t0p_ps=amounts,
    t0b_ps=amounts,
    prefill_hinges=hinges,
    decode_hinges=hinges,
    tn_ps=amounts,
    token_slopes=slopes,
)
counts = st.integers(min_value=0, max_value=500)


@pytest.mark.parametrize(
    ("iteration", "expected_ps"),
    [
        pytest.param((0, 0, 0, 0), 1_000, id="idle: the constant"),
        pytest.param(
            (2, 4, 0, 0), 1_000 + 100 + 20 + 6, id="prefill below the hinge; A is half of its double"
        ),
        pytest.param((6, 0, 0, 0), 1_000 + 100 + 60 + 2 * 7, id="prefill above the hinge"),
        pytest.param((0, 0, 1, 30), 1_000 + 50 + 20 + 60, id="one sequence decodes"),
        pytest.param((0, 0, 4, 0), 1_000 + 50 + 80 + 2 * 5 + 1, id="decode above both hinges"),
        pytest.param((2, 4, 1, 30), 1_000 + 100 + 20 + 6 + 50 + 20 + 60, id="mixed: the constant once"),
    ],
)
def test_the_terms_of_an_iteration(iteration: tuple[int, int, int, int], expected_ps: int) -> None:
    assert COST.iteration_ps(*iteration) == expected_ps


@pytest.mark.parametrize(
    ("iteration", "chunks", "more_ps"),
    [
        pytest.param((0, 0, 2, 10), 1, 80_000, id="decode alone climbs the first slope"),
        pytest.param((2, 4, 1, 30), 1, 1_000_000 + 120_000, id="both phases climb together"),
        pytest.param((2, 4, 3, 30), 1, 1_000_000 + 120_000, id="the second slope is flat"),
        pytest.param((6, 9, 1, 30), 3, 3_000_000 + 140_000, id="the third rises again; three prompts"),
        pytest.param((0, 0, 0, 0), 1, 0, id="idle"),
    ],
)
def test_what_tokens_and_prompts_cost_together(
    iteration: tuple[int, int, int, int], chunks: int, more_ps: int
) -> None:
    assert TOGETHER.iteration_ps(*iteration, chunks) == COST.iteration_ps(*iteration) + more_ps


@given(costs, st.integers(1, 300), st.integers(1, 256), st.integers(1, 10**6))
def test_a_run_of_decode_iterations_equals_its_single_iterations(
    cost: IterationCost, iterations: int, sequences: int, context: int
) -> None:
    single = sum(cost.iteration_ps(0, 0, sequences, context + i * sequences) for i in range(iterations))
    assert cost.decode_run_ps(iterations, sequences, context) == single


@given(costs, st.integers(1, 10**15), st.integers(1, 256), st.integers(1, 10**6))
def test_the_iteration_under_way_at_a_time_is_found_in_closed_form(
    cost: IterationCost, span_ps: int, sequences: int, context: int
) -> None:
    cost = replace(cost, t0_ps=max(cost.t0_ps, 10**6))
    iterations = cost.decode_iterations_until(span_ps, sequences, context)
    assert cost.decode_run_ps(iterations, sequences, context) >= span_ps
    assert iterations == 1 or cost.decode_run_ps(iterations - 1, sequences, context) < span_ps


@given(costs, counts, counts, counts, counts, st.integers(0, 3))
def test_more_work_never_takes_less_time(
    cost: IterationCost, prefill: int, attention: int, sequences: int, context: int, more: int
) -> None:
    amounts = [prefill, attention, sequences, context]
    before = cost.iteration_ps(*amounts)
    amounts[more] += 1
    assert cost.iteration_ps(*amounts) >= before


@pytest.mark.parametrize(
    ("prompt", "chunk", "cached", "chunks"),
    [
        pytest.param(5, 8, 0, [(5, 25)], id="one chunk"),
        pytest.param(10, 4, 0, [(4, 16), (4, 4 * 12), (2, 2 * 18)], id="chunks see what came before"),
        pytest.param(10, 8, 6, [(4, 4 * 16)], id="a cached prefix is context, not work"),
        pytest.param(8, 8, 8, [(1, 15)], id="all cached: the last token is computed again"),
    ],
)
def test_prefill_of_a_prompt_alone(
    prompt: int, chunk: int, cached: int, chunks: list[tuple[int, int]]
) -> None:
    expected = sum(COST.iteration_ps(tokens, attention, 0, 0) for tokens, attention in chunks)
    assert COST.prefill_ps(prompt, chunk, cached) == expected
