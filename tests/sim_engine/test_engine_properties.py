"""Whatever is thrown at it: every request ends, no block is lost, and the same input gives the same run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.perf import AcceleratorClass, EngineProfile, Hinge, IterationCost, Slope
from pointsman.sim.engine import Engine, EngineOptions, EngineRequest, Iteration, KvPull, Output, Scheduling

PROFILE = EngineProfile(
    name="toy",
    model="toy",
    engine="toy",
    accelerator="toy",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(
        1000, 10, 1, 5, 1, decode_hinges=(Hinge(3, 7),), tn_ps=13, token_slopes=(Slope(0, 3), Slope(4, 1))
    ),
    kv_capacity_tokens=320,
    kv_bytes_per_token=1,
    transfer_bytes_per_s=1.0,
    block_size=8,
)


def family(seed: int) -> Callable[[int], int]:
    """Requests of one family are the same text; all families share their first three blocks."""
    return lambda block: block if block < 3 else (seed + 1) * 1000 + block


@dataclass
class Load:
    """Requests and aborts in the order of their times."""

    arrivals: list[tuple[int, EngineRequest]] = field(default_factory=list)
    aborts: list[tuple[int, str]] = field(default_factory=list)

    def due(self, engine: Engine, now: int) -> None:
        while self.arrivals and self.arrivals[0][0] <= now:
            at, request = self.arrivals.pop(0)
            engine.add(request, at)
        while self.aborts and self.aborts[0][0] <= now:
            engine.abort(self.aborts.pop(0)[1])

    def next_ps(self) -> int | None:
        times = [entries[0][0] for entries in (self.arrivals, self.aborts) if entries]
        return min(times, default=None)


def load(seed: int) -> Load:
    rng = Random(seed)
    made = Load()
    now = 0
    gap = rng.choice([500, 4000, 40_000])
    for number in range(rng.randrange(1, 30)):
        now += rng.randrange(gap)
        prompt = rng.randrange(1, 150)
        request = EngineRequest(
            str(number),
            prompt,
            rng.randrange(1, 60),
            block_hash=rng.choice([None, family(rng.randrange(3))]),
            priority=rng.randrange(3),
            pull=rng.choice([None, None, KvPull(rng.randrange(1, prompt + 1), rng.randrange(1, 5000))]),
            hold_kv=rng.random() < 0.2,
        )
        made.arrivals.append((now, request))
        if rng.random() < 0.1:
            made.aborts.append((now + rng.randrange(3 * gap), request.request_id))
    made.aborts.sort()
    return made


options = st.builds(
    EngineOptions,
    chunk_tokens=st.sampled_from([3, 7, 32, 256]),
    scheduling=st.sampled_from(list(Scheduling)),
    prefix_caching=st.booleans(),
    max_sequences=st.sampled_from([1, 3, 16]),
    lease_ps=st.sampled_from([1, 20_000]),
)


def step(engine: Engine, made: Load, check: Callable[[Engine, Iteration], None]) -> list[object]:
    """Iteration by iteration, until nothing is left. Returns everything that was seen."""
    seen: list[object] = []
    now = 0
    while True:
        made.due(engine, now)
        iteration = engine.begin(now)
        if iteration is None:
            upcoming = [at for at in (engine.wake_ps(), made.next_ps()) if at is not None]
            if not upcoming:
                return seen
            now = max(now, min(upcoming))
            continue
        check(engine, iteration)
        seen.append([(request.request_id, tokens) for request, tokens in iteration.scheduled])
        now = iteration.end_ps
        seen.append([(output.request.request_id, output.finished) for output in engine.end(iteration)])


def leap(engine: Engine, made: Load) -> list[Output]:
    """Run by run, each cut where something arrives."""
    seen: list[Output] = []
    now = 0
    while True:
        made.due(engine, now)
        run = engine.begin_run(now)
        upcoming = made.next_ps()
        if run is None:
            times = [at for at in (engine.wake_ps(), upcoming) if at is not None]
            if not times:
                return seen
            now = max(now, min(times))
            continue
        if upcoming is not None:
            engine.cut(run, upcoming)
        now = run.end_ps
        seen += engine.end_run(run)


def life(request: EngineRequest) -> tuple[object, ...]:
    return (
        request.request_id,
        request.scheduled_ps,
        request.first_token_ps,
        request.finished_ps,
        request.generated_tokens,
        request.cached_tokens,
        request.preemptions,
    )


def holders(engine: Engine) -> list[EngineRequest]:
    return [*engine.requests(), *engine._leases]


def blocks_held(engine: Engine) -> int:
    """Distinct blocks that requests and leases hold, counted from their side."""
    shared = {block for owner in holders(engine) for block in owner.cached_blocks}
    plain = 0
    for owner in holders(engine):
        held = owner.blocks if owner.clock is None else -(-owner.computed_tokens // engine.block_size)
        plain += held - len(owner.cached_blocks)
    return len(shared) + plain


def check_iteration(engine: Engine, iteration: Iteration) -> None:
    assert iteration.end_ps > iteration.start_ps
    assert sum(tokens for _, tokens in iteration.scheduled) <= engine.options.chunk_tokens
    assert len({request for request, _ in iteration.scheduled}) == len(iteration.scheduled)
    stats = engine.stats()
    assert stats.running <= engine.max_sequences
    assert stats.used_blocks == blocks_held(engine)
    assert 0 <= stats.used_blocks <= stats.total_blocks
    for owner in holders(engine):
        for index, block in enumerate(owner.cached_blocks):
            assert owner.block_hash is not None
            assert block.content == owner.block_hash(index)
        assert len(owner.cached_blocks) * engine.block_size <= owner.computed_tokens + engine.block_size


def price(iteration: Iteration) -> int:
    """The time of an iteration from what each of its requests computes, one by one."""
    prefill = attention_x2 = sequences = context = chunks = 0
    for request, tokens in iteration.scheduled:
        if tokens == 1:
            sequences += 1
            context += request.computed_tokens
        else:
            chunks += 1
            prefill += tokens
            attention_x2 += tokens * (2 * request.computed_tokens - tokens)
    return PROFILE.cost.iteration_ps(prefill, attention_x2, sequences, context, chunks)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), options=options)
def test_any_life_stepped(seed: int, options: EngineOptions) -> None:
    engine = Engine(PROFILE, options)

    def check(engine: Engine, iteration: Iteration) -> None:
        check_iteration(engine, iteration)
        assert iteration.end_ps - iteration.start_ps == price(iteration)

    made = load(seed)
    requests = [request for _, request in made.arrivals]
    aborted = {request_id for _, request_id in made.aborts}
    seen = step(engine, made, check)
    for request in requests:
        if request.finished_ps is None:
            assert request.request_id in aborted
        else:
            assert request.generated_tokens == request.output_tokens
            assert request.computed_tokens == request.prompt_tokens + request.output_tokens - 1
            assert request.scheduled_ps is not None
            assert request.first_token_ps is not None
            assert request.arrived_ps <= request.scheduled_ps < request.first_token_ps <= request.finished_ps
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)
    assert engine.pool.available == engine.pool.total
    assert seen == step(Engine(PROFILE, options), load(seed), lambda _engine, _iteration: None)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), options=options)
def test_leaping_equals_stepping(seed: int, options: EngineOptions) -> None:
    stepped, leapt = Engine(PROFILE, options), Engine(PROFILE, options)
    made, again = load(seed), load(seed)
    requests = [request for _, request in made.arrivals], [request for _, request in again.arrivals]
    step(stepped, made, lambda _engine, _iteration: None)
    outputs = leap(leapt, again)
    assert [life(request) for request in requests[1]] == [life(request) for request in requests[0]]
    assert leapt.counters == stepped.counters
    assert [block.content for block in leapt.pool._evictable] == [
        block.content for block in stepped.pool._evictable
    ]
    ends = [output.request.request_id for output in outputs if output.finished]
    assert sorted(ends) == sorted(r.request_id for r in requests[1] if r.finished_ps is not None)


@pytest.mark.parametrize("prompt", [1, 8, 50])
def test_a_run_of_decoding_is_one_leap(prompt: int) -> None:
    engine = Engine(PROFILE)
    engine.add(EngineRequest("a", prompt, 200), 0)
    first = engine.begin_run(0)
    assert first is not None
    engine.end_run(first)
    run = engine.begin_run(first.end_ps)
    assert run is not None
    assert run.iterations == 199
    (output,) = engine.end_run(run)
    assert (output.new_tokens, output.finished) == (199, True)


def test_a_cut_run_ends_with_the_iteration_under_way() -> None:
    for late_ps, expected in ((1, 3), (0, 2)):
        engine = Engine(PROFILE)
        engine.add(EngineRequest("a", 8, 50), 0)
        first = engine.begin_run(0)
        assert first is not None
        engine.end_run(first)
        run = engine.begin_run(first.end_ps)
        assert run is not None
        times = [run.start_ps + PROFILE.cost.decode_run_ps(n, 1, 9) for n in (1, 2, 3)]
        engine.cut(run, times[1] + late_ps)
        assert (run.iterations, run.end_ps) == (expected, times[expected - 1])
        engine.cut(run, times[2])
        assert run.iterations == expected
