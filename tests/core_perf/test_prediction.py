"""Predictions agree with the integers they are made from, and with what an engine then does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.api.profile import load_profile
from pointsman.core.instances import Role
from pointsman.core.prediction import (
    FloatArray,
    Links,
    Work,
    iteration_s,
    joining,
    kv_peak,
    kv_tokens,
    transfer_s,
)
from pointsman.core.units import to_s
from pointsman.sim.engine import Engine, EngineOptions, EngineRequest
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.node import Link, Node

PROFILES = ("h100-llama3.1-8b", "a100-opt-13b", "a100-llama2-70b-tp8", "h100-qwen3-30b-a3b")
CHUNK = 2048


def floats(*values: float) -> FloatArray:
    return np.array(values, np.float64)


@pytest.mark.parametrize("name", PROFILES)
@given(
    prefill=st.integers(0, 9000),
    sequences=st.integers(0, 600),
    each_context=st.integers(1, 9000),
)
def test_many_iterations_cost_what_each_costs(
    name: str, prefill: int, sequences: int, each_context: int
) -> None:
    cost = load_profile(name).cost
    context = sequences * each_context
    found = iteration_s(
        cost, floats(prefill, 0), floats(prefill**2 / 2, 0), floats(sequences, 0), floats(context, 0)
    )
    assert found[0] == pytest.approx(
        to_s(cost.iteration_ps(prefill, prefill**2, sequences, context)), rel=1e-9
    )
    assert found[1] == pytest.approx(to_s(cost.t0_ps))


def work(prefill: float = 0, sequences: float = 0, context: float = 0) -> Work:
    return Work(floats(prefill), floats(sequences), floats(context))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("prompt", "cached"), [(100, 0), (2048, 0), (5000, 0), (5000, 2000), (300, 300)])
def test_alone_on_an_idle_instance_the_first_token_takes_the_prefill(
    name: str, prompt: int, cached: int
) -> None:
    profile = load_profile(name)
    found = joining(profile, CHUNK, work(), prompt, floats(cached), 1)
    expected_s = to_s(profile.cost.prefill_ps(prompt, CHUNK, cached))
    assert found.ttft_s[0] == pytest.approx(expected_s, rel=0.001)
    assert found.e2e_s[0] == found.ttft_s[0]
    assert found.slowdown_s[0] == 0


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(PROFILES),
    running=st.integers(1, 40),
    context=st.integers(20, 1500),
    prompt=st.integers(10, 6000),
    output=st.integers(2, 60),
)
def test_beside_others_an_engine_does_what_was_predicted(
    name: str, running: int, context: int, prompt: int, output: int
) -> None:
    """Nobody else joins or leaves: TTFT within 5%, end to end within 5%."""
    profile = load_profile(name)
    engine = Engine(profile, EngineOptions(chunk_tokens=CHUNK, prefix_caching=False))
    now_ps = 0
    others = [EngineRequest(f"r{number}", context, 10_000) for number in range(running)]
    for other in others:
        engine.add(other, now_ps)
    while any(other.first_token_ps is None for other in others):
        run = engine.begin_run(now_ps)
        assert run is not None
        engine.cut(run, now_ps)
        now_ps = run.end_ps
        engine.end_run(run)
    held = sum(context + other.generated_tokens for other in others)
    predicted = joining(profile, CHUNK, work(0, running, held), prompt, floats(0), output)
    joined = EngineRequest("new", prompt, output)
    engine.add(joined, now_ps)
    start_ps = now_ps
    while joined.finished_ps is None:
        run = engine.begin_run(now_ps)
        assert run is not None
        now_ps = run.end_ps
        engine.end_run(run)
    assert joined.first_token_ps is not None
    assert to_s(joined.first_token_ps - start_ps) == pytest.approx(predicted.ttft_s[0], rel=0.05)
    assert to_s(joined.finished_ps - start_ps) == pytest.approx(predicted.e2e_s[0], rel=0.05)


def test_what_is_placed_before_delays_and_what_decodes_is_slowed() -> None:
    profile = load_profile("h100-llama3.1-8b")
    three = Work(floats(0, 6000, 0), floats(0, 0, 64), floats(0, 0, 64_000))
    found = joining(profile, CHUNK, three, 1000, floats(0, 0, 0), 100)
    assert found.ttft_s[1] > found.ttft_s[2] > found.ttft_s[0]
    assert found.tpot_s[2] > found.tpot_s[1] == found.tpot_s[0]
    assert found.slowdown_s[2] > found.slowdown_s[1] == found.slowdown_s[0] == 0
    cached = joining(profile, CHUNK, three, 1000, floats(900, 900, 900), 100)
    assert (cached.ttft_s < found.ttft_s).all()
    assert cached.slowdown_s[2] < found.slowdown_s[2]


@pytest.mark.parametrize(
    ("contexts", "left", "expected"),
    [
        pytest.param([], [], (0, 0), id="nobody"),
        pytest.param([100], [10], (109, 9), id="one: at its last token"),
        pytest.param([100, 100], [10, 10], (218, 9), id="two that end together"),
        pytest.param([1000, 10], [2, 50], (1012, 1), id="the long one ends early"),
        pytest.param([100, 10], [2, 500], (509, 499), id="the late one outgrows both"),
    ],
)
def test_the_peak_of_kv(contexts: list[int], left: list[int], expected: tuple[int, int]) -> None:
    assert kv_peak(contexts, left) == expected


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 60)), min_size=1, max_size=12))
def test_no_iteration_holds_more_than_the_peak(sequences: list[tuple[int, int]]) -> None:
    contexts, left = zip(*sequences, strict=True)
    totals = kv_tokens(contexts, left, range(70))
    assert kv_peak(contexts, left)[0] == max(totals)
    assert totals[-1] == 0


def _node(profile: str) -> Node:
    return Node(0, profile, Pool(profile, 1, Role.MIXED, load_profile(profile)), EngineOptions())


@given(
    source=st.sampled_from(PROFILES),
    target=st.sampled_from(PROFILES),
    before=st.integers(0, 40_000),
    prompt=st.integers(1, 40_000),
    held=st.integers(0, 40_000),
)
def test_a_transfer_takes_what_the_simulated_link_takes(
    source: str, target: str, before: int, prompt: int, held: int
) -> None:
    ends = [load_profile(source), load_profile(target)]
    link = Link(*(_node(name) for name in (source, target)))
    free_s = to_s(link.arrive_ps(0, before))
    links = Links.between(ends[0], [ends[1]], floats(free_s))
    expected_s = to_s(link.arrive_ps(0, prompt - held)) if prompt > held else 0.0
    assert transfer_s(links, prompt, floats(held))[0] == pytest.approx(expected_s, rel=1e-6, abs=1e-9)


def test_many_targets_are_scored_at_once() -> None:
    fast, slow = load_profile("h100-llama3.1-8b"), load_profile("a100-llama2-70b-tp8")
    links = Links.between(fast, [fast, slow, fast, fast], floats(0, 0, 0.5, 0))
    found = transfer_s(links, 1000, floats(0, 0, 0, 1000))
    assert found[0] == pytest.approx(fast.transfer_s(1000))
    assert found[1] == pytest.approx(max(fast.transfer_s(1000), slow.transfer_s(1000)))
    assert found[2] == pytest.approx(0.5 + found[0])
    assert found[3] == 0
