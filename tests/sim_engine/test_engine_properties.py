"""Whatever is thrown at it: every request ends, no block is lost, and the same input gives the same run."""

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.sim.engine import Engine, EngineOptions, EngineRequest, Iteration, KvPull, Scheduling

PROFILE = EngineProfile(
    name="toy",
    model="toy",
    engine="toy",
    accelerator="toy",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(1000, 10, 1, 5, 1),
    kv_capacity_tokens=320,
    kv_bytes_per_token=1,
    transfer_bytes_per_s=1.0,
    block_size=8,
)


def family(seed: int) -> Callable[[int], int]:
    """Requests of one family share their first three blocks."""
    return lambda block: block if block < 3 else (seed + 1) * 1000 + block


def drive(seed: int, options: EngineOptions) -> tuple[list[object], Engine]:
    """A random life of an engine, and everything that was seen of it."""
    rng = Random(seed)
    engine = Engine(PROFILE, options)
    seen: list[object] = []
    now = 0
    for number in range(40):
        for _ in range(rng.randrange(3)):
            prompt = rng.randrange(1, 150)
            request = EngineRequest(
                f"{number}-{rng.random()}",
                prompt,
                rng.randrange(1, 60),
                block_hash=rng.choice([None, family(rng.randrange(3))]),
                priority=rng.randrange(3),
                pull=rng.choice([None, None, KvPull(rng.randrange(1, prompt + 1), rng.randrange(5000))]),
                hold_kv=rng.random() < 0.2,
            )
            engine.add(request, now)
        for request in engine.requests():
            if rng.random() < 0.03:
                engine.abort(request.request_id)
        iteration = engine.begin(now)
        now = step(engine, iteration, now, seen)
        assert engine.pool.used == distinct_blocks(engine)
    return seen, engine


def step(engine: Engine, iteration: Iteration | None, now: int, seen: list[object]) -> int:
    if iteration is None:
        wake = engine.wake_ps()
        return now if wake is None else max(now, wake)
    assert iteration.end_ps > iteration.start_ps
    assert sum(tokens for _, tokens in iteration.scheduled) <= engine.options.chunk_tokens
    seen.append([(r.request_id, tokens) for r, tokens in iteration.scheduled])
    seen.append([(o.request.request_id, o.finished) for o in engine.end(iteration)])
    return iteration.end_ps


def distinct_blocks(engine: Engine) -> int:
    owners = [*engine.requests(), *(held.request for held in engine._held.values())]
    shared = {block for owner in owners for block in owner.blocks.hashes if block is not None}
    own = sum(owner.blocks.plain + owner.blocks.hashes.count(None) for owner in owners)
    return own + len(shared)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    chunk=st.sampled_from([7, 32, 256]),
    scheduling=st.sampled_from(list(Scheduling)),
    prefix_caching=st.booleans(),
    sequences=st.sampled_from([1, 3, 16]),
)
def test_any_life(
    *, seed: int, chunk: int, scheduling: Scheduling, prefix_caching: bool, sequences: int
) -> None:
    options = EngineOptions(
        chunk_tokens=chunk,
        scheduling=scheduling,
        prefix_caching=prefix_caching,
        max_sequences=sequences,
        lease_ps=20_000,
    )
    seen, engine = drive(seed, options)
    again, _ = drive(seed, options)
    assert seen == again
    now = 10**9
    for _ in range(20_000):
        iteration = engine.begin(now)
        if iteration is None and engine.wake_ps() is None:
            break
        now = step(engine, iteration, now, [])
    assert not engine.has_work()
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.used_blocks) == (0, 0, 0)
    assert engine.pool.available == engine.pool.total
