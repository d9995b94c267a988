"""How fast the engine loop is: iterations stepped, and requests leapt through, per second of CPU time.

    python bench/engine_loop.py [--json build/bench/engine_loop.json] [--requests 20000]

`step` is what an HTTP engine does (an output per token and request), `leap` what a simulator does. One process.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from pointsman.api.profile import load_profile
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine import Engine, EngineOptions, EngineRequest


def requests(count: int, rate: float, seed: int, *, hashed: bool) -> list[tuple[int, EngineRequest]]:
    """Poisson arrivals with lengths about those of the Azure conversation trace (means 1,155 and 211)."""
    rng = Random(seed)
    at = 0.0
    made = []
    for number in range(count):
        at += rng.expovariate(rate)
        prompt = min(4000, max(1, round(rng.lognormvariate(6.6, 0.95))))
        output = min(1000, max(1, round(rng.lognormvariate(5.0, 0.8))))
        request = EngineRequest(str(number), prompt, output, block_hash=chain(number) if hashed else None)
        made.append((round(at * PS_PER_S), request))
    return made


def chain(seed: int) -> Callable[[int], int]:
    """A system prompt of 512 tokens in common, the rest its own."""
    return lambda block: block if block < 32 else (seed << 20) + block


def stepping(sequences: int, iterations: int, *, hashed: bool) -> dict[str, Any]:
    """A steady batch of `sequences`: whoever ends is replaced."""
    engine = Engine(load_profile("a100-llama2-70b-tp8"), EngineOptions(max_sequences=sequences))
    supply = iter(requests(10**6 // 50, 1.0, 0, hashed=hashed))
    now = 0
    for _ in range(sequences):
        engine.add(next(supply)[1], now)
    for _ in range(200):
        iteration = engine.begin(now)
        assert iteration is not None
        now = iteration.end_ps
        for output in engine.end(iteration):
            if output.finished:
                engine.add(next(supply)[1], now)
    tokens = engine.counters.generated_tokens
    start = time.process_time()
    for _ in range(iterations):
        iteration = engine.begin(now)
        assert iteration is not None
        now = iteration.end_ps
        for output in engine.end(iteration):
            if output.finished:
                engine.add(next(supply)[1], now)
    wall = time.process_time() - start
    return {
        "mode": "step",
        "sequences": sequences,
        "prefix_cache": hashed,
        "iterations_per_s": round(iterations / wall),
        "us_per_iteration": round(wall / iterations * 1e6, 1),
        "tokens_per_s": round((engine.counters.generated_tokens - tokens) / wall),
    }


def leaping(profile: str, count: int, rate: float, *, hashed: bool) -> dict[str, Any]:
    """One engine under an open load, from the first arrival to the last token."""
    engine = Engine(load_profile(profile))
    pending = requests(count, rate, 1, hashed=hashed)
    pending.reverse()
    start = time.process_time()
    now = runs = 0
    while True:
        while pending and pending[-1][0] <= now:
            at, request = pending.pop()
            engine.add(request, at)
        run = engine.begin_run(now)
        if run is None:
            if not pending:
                break
            now = pending[-1][0]
            continue
        if pending:
            engine.cut(run, pending[-1][0])
        now = run.end_ps
        engine.end_run(run)
        runs += 1
    wall = time.process_time() - start
    counters = engine.counters
    return {
        "mode": "leap",
        "profile": profile,
        "rate": rate,
        "prefix_cache": hashed,
        "requests": count,
        "requests_per_s": round(count / wall),
        "us_per_request": round(wall / count * 1e6, 1),
        "runs_per_request": round(runs / count, 2),
        "iterations_per_s": round(counters.iterations / wall),
        "mean_batch": round(counters.generated_tokens / counters.iterations, 1),
        "preemptions": counters.preemptions,
        "virtual_s": round(now / PS_PER_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [
        stepping(sequences, 3000, hashed=hashed)
        for sequences in (16, 50, 100, 200)
        for hashed in (False, True)
    ]
    for profile, rate in (("a100-opt-13b", 1.5), ("a100-opt-13b", 3.5), ("a100-llama2-70b-tp8", 3.0)):
        rows += [leaping(profile, arguments.requests, rate, hashed=hashed) for hashed in (False, True)]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
