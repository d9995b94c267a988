"""The engine loop, iteration by iteration, in small worlds where every number can be checked by hand."""

from collections.abc import Callable

import pytest

from pointsman.core.perf import EngineProfile
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine import (
    Engine,
    EngineOptions,
    EngineRequest,
    KvPull,
    RequestTooLongError,
    Scheduling,
)


def request(name: str, prompt: int, output: int, **fields: object) -> EngineRequest:
    return EngineRequest(name, prompt, output, **fields)  # type: ignore[arg-type]


def chain(seed: int) -> Callable[[int], int]:
    return lambda block: seed * 1_000_000 + block


def run(engine: Engine, now_ps: int = 0) -> list[list[tuple[str, int]]]:
    """Step until nothing runs; what each iteration scheduled."""
    steps = []
    while (iteration := engine.begin(now_ps)) is not None:
        steps.append([(r.request_id, tokens) for r, tokens in iteration.scheduled])
        now_ps = iteration.end_ps
        engine.end(iteration)
    return steps


def test_a_prompt_in_chunks_then_a_token_an_iteration(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(chunk_tokens=40))
    engine.add(request("a", 100, 3), 0)
    assert run(engine) == [[("a", 40)], [("a", 40)], [("a", 20)], [("a", 1)], [("a", 1)]]
    assert engine.stats().used_blocks == 0


def test_the_time_of_an_iteration_is_the_engine_model(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(chunk_tokens=64))
    engine.add(request("a", 100, 5), 0)
    first = engine.begin(0)
    assert first is not None
    assert first.end_ps == 1_000_000_000 + 64 * 1_000_000 + 10 * 64 * 64 // 2
    engine.end(first)
    second = engine.begin(first.end_ps)
    assert second is not None
    assert second.end_ps - second.start_ps == 1_000_000_000 + 36 * 1_000_000 + 10 * 36 * (128 + 36) // 2
    engine.end(second)
    third = engine.begin(second.end_ps)
    assert third is not None
    assert third.end_ps - third.start_ps == 1_000_000_000 + 10_000_000 + 101 * 1_000


def test_decodes_go_first_and_a_prompt_gets_what_is_left(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(chunk_tokens=32))
    engine.add(request("a", 10, 4), 0)
    engine.add(request("b", 50, 2), 0)
    assert run(engine) == [
        [("a", 10), ("b", 22)],
        [("a", 1), ("b", 28)],
        [("a", 1), ("b", 1)],
        [("a", 1)],
    ]


def test_the_first_token_comes_with_the_end_of_the_prompt(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 10, 1), 0)
    iteration = engine.begin(0)
    assert iteration is not None
    (output,) = engine.end(iteration)
    assert (output.request.request_id, output.new_tokens, output.finished) == ("a", 1, True)
    assert output.request.first_token_ps == iteration.end_ps
    assert not engine.has_work()


def test_a_cached_prefix_is_not_computed_again(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 100, 2, block_hash=chain(1)), 0)
    run(engine)
    second = request("b", 100, 1, block_hash=chain(1))
    engine.add(second, 0)
    assert run(engine) == [[("b", 4)]]
    assert second.cached_tokens == 96
    assert engine.counters.prefix_hits == 96


def test_the_last_prompt_token_is_always_computed(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 96, 1, block_hash=chain(1)), 0)
    run(engine)
    engine.add(request("b", 96, 1, block_hash=chain(1)), 0)
    assert run(engine) == [[("b", 16)]]


def test_answers_are_cached_too(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 20, 60, block_hash=chain(1)), 0)
    run(engine)
    turn = request("b", 90, 1, block_hash=chain(1))
    engine.add(turn, 0)
    run(engine)
    assert turn.cached_tokens == 64  # 79 of 80 tokens were computed: four full blocks


def test_without_prefix_caching_everything_is_computed(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(prefix_caching=False))
    for name in "ab":
        engine.add(request(name, 100, 1, block_hash=chain(1)), 0)
        assert run(engine) == [[(name, 100)]]


def test_who_finds_no_block_preempts_the_last_that_came(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(kv_capacity_tokens=64))
    first, second = request("a", 31, 18), request("b", 31, 5)
    engine.add(first, 0)
    engine.add(second, 0)
    steps = run(engine)
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert ("b", 33) in [entry for step in steps for entry in step]  # its prompt and two tokens, recomputed
    assert engine.stats().used_blocks == 0


def test_under_priorities_the_least_important_is_preempted(profile: EngineProfile) -> None:
    options = EngineOptions(kv_capacity_tokens=64, scheduling=Scheduling.PRIORITY)
    engine = Engine(profile, options)
    low, high = request("low", 31, 5, priority=9), request("high", 31, 18, priority=1)
    engine.add(low, 0)
    engine.add(high, 1)
    run(engine)
    assert (low.preemptions, high.preemptions) == (1, 0)


def test_priority_decides_who_starts(profile: EngineProfile) -> None:
    options = EngineOptions(scheduling=Scheduling.PRIORITY, max_sequences=1)
    engine = Engine(profile, options)
    for name, priority in (("c", 5), ("a", 1), ("b", 1)):
        engine.add(request(name, 8, 1, priority=priority), 0)
    assert [step[0][0] for step in run(engine)] == ["a", "b", "c"]


def test_no_more_sequences_than_allowed(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(max_sequences=2))
    for name in "abc":
        engine.add(request(name, 8, 2), 0)
    assert run(engine) == [[("a", 8), ("b", 8)], [("a", 1), ("b", 1)], [("c", 8)], [("c", 1)]]


def test_an_abort_frees_at_once_and_gives_no_more_output(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 100, 5), 0)
    iteration = engine.begin(0)
    assert iteration is not None
    assert engine.abort("a")
    assert engine.stats().used_blocks == 0
    assert engine.end(iteration) == []
    assert not engine.abort("a")


def test_pulled_kv_is_waited_for_and_not_computed(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 100, 3, pull=KvPull(tokens=100, duration_ps=7_000)), 0)
    assert engine.begin(0) is None
    assert engine.stats().used_blocks == 7
    assert engine.wake_ps() == 7_000
    assert engine.begin(6_999) is None
    assert run(engine, 7_000) == [[("a", 1)], [("a", 1)], [("a", 1)]]


def test_only_what_is_not_cached_is_pulled(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 96, 1, block_hash=chain(1)), 0)
    run(engine)
    engine.add(request("b", 192, 1, block_hash=chain(1), pull=KvPull(192, 1_000)), 0)
    assert engine.begin(0) is None
    assert engine.wake_ps() == 500
    assert engine.counters.pulled_tokens == 96


def test_held_kv_stays_until_released_or_expired(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(lease_ps=PS_PER_S))
    for name in "ab":
        engine.add(request(name, 100, 1, hold_kv=True), 0)
    run(engine)
    assert (engine.held_tokens("a"), engine.stats().used_blocks) == (100, 14)
    assert engine.release_kv("a")
    assert not engine.release_kv("a")
    assert engine.stats().used_blocks == 7
    expiry = engine.wake_ps()
    assert expiry is not None
    assert engine.begin(expiry) is None
    assert (engine.held_tokens("b"), engine.stats().used_blocks) == (None, 0)


@pytest.mark.parametrize(("prompt", "output"), [(4096, 1), (1, 4096), (5000, 10)])
def test_what_can_never_fit_is_refused(prompt: int, output: int, profile: EngineProfile) -> None:
    with pytest.raises(RequestTooLongError, match="longest context of 4096 tokens"):
        Engine(profile).add(request("a", prompt, output), 0)


def test_the_longest_that_fits_runs(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 4000, 96), 0)
    run(engine)
    assert not engine.has_work()


def test_a_renewed_lease_begins_anew(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(lease_ps=100))
    engine.add(request("a", 100, 1, hold_kv=True), 0)
    run(engine)
    expiry = engine.wake_ps()
    assert expiry is not None
    assert engine.renew_kv("a", expiry - 1)
    assert engine.wake_ps() == expiry + 99
    assert engine.begin(expiry) is None
    assert engine.held_tokens("a") == 100
    assert not engine.renew_kv("b", 0)


def test_a_request_is_let_in_only_if_all_of_it_fits_now(profile: EngineProfile) -> None:
    """Its first chunk would fit, its prompt would not (scheduler_reserve_full_isl of vLLM)."""
    engine = Engine(profile, EngineOptions(kv_capacity_tokens=160, chunk_tokens=32))
    engine.add(request("a", 96, 2), 0)
    engine.add(request("b", 80, 1), 0)
    assert run(engine)[3:] == [[("a", 1)], [("b", 32)], [("b", 32)], [("b", 16)]]


def test_blocks_without_content_are_used_before_any_prefix_is_forgotten(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(kv_capacity_tokens=160))
    engine.add(request("a", 64, 1, block_hash=chain(1)), 0)
    run(engine)
    engine.add(request("b", 96, 1), 0)
    run(engine)
    again = request("c", 65, 1, block_hash=chain(1))
    engine.add(again, 0)
    run(engine)
    assert again.cached_tokens == 64


def test_the_tail_of_the_least_recently_used_prefix_goes_first(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(kv_capacity_tokens=160))
    for name, seed in (("old", 1), ("new", 2)):
        engine.add(request(name, 64, 1, block_hash=chain(seed)), 0)
        run(engine)
    engine.add(request("b", 48, 1), 0)  # two blocks are without content, one must be forgotten
    run(engine)
    hits = {}
    for name, seed in (("old again", 1), ("new again", 2)):
        again = request(name, 65, 1, block_hash=chain(seed))
        engine.add(again, 0)
        run(engine)
        hits[name] = again.cached_tokens
    assert hits == {"old again": 48, "new again": 64}


def test_a_last_block_computed_twice_is_held_twice_and_found_once(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(kv_capacity_tokens=128, chunk_tokens=64))
    for name in "ab":
        engine.add(request(name, 32, 1, block_hash=chain(1)), 0)
    engine.begin(0)
    assert (engine.pool.cached, engine.pool.used) == (2, 3)


def test_a_budget_smaller_than_the_running_lets_the_first_go_on(profile: EngineProfile) -> None:
    engine = Engine(profile, EngineOptions(chunk_tokens=2))
    for name in "abc":
        engine.add(request(name, 1, 3), 0)
    assert run(engine) == [
        [("a", 1), ("b", 1)],
        [("a", 1), ("b", 1)],
        [("a", 1), ("b", 1)],
        [("c", 1)],
        [("c", 1)],
        [("c", 1)],
    ]


def test_kv_on_its_way_is_freed_by_an_abort(profile: EngineProfile) -> None:
    engine = Engine(profile)
    engine.add(request("a", 100, 3, pull=KvPull(tokens=100, duration_ps=7_000)), 0)
    assert engine.begin(0) is None
    assert engine.abort("a")
    assert (engine.stats().used_blocks, engine.wake_ps()) == (0, None)
