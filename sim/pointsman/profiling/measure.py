"""Iteration times of a live engine, as far as a client can see them: through one OpenAI endpoint, with nothing else on it.

A prompt alone tells what its prefill takes: time to the first token. Streams that run together tell what an iteration of
so many sequences takes: the median gap between tokens. Both hold what HTTP and the engine's own host code add.
Prompts are new each time, so that no prefix is cached. Iterations that mix phases cannot be told from outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from pointsman.core.slo import Slo
from pointsman.loadgen.client import LoadOptions
from pointsman.loadgen.replay import EndpointError, Plan, Replay, Target
from pointsman.profiling.points import Measured
from pointsman.sim.objective import FixedObjective
from pointsman.sim.report import Report, RequestResult, RunFacts
from pointsman.sim.workload.request import TraceRequest

DEFAULT_PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DEFAULT_BATCHES = (1, 2, 4, 8, 16, 32, 64)
DEFAULT_CONTEXTS = (64, 512)


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured."""

    prompts: Sequence[int] = DEFAULT_PROMPTS
    """Tokens of prompts that are computed alone; no longer than the engine's token budget, or they are cut up."""
    batches: Sequence[int] = DEFAULT_BATCHES
    contexts: Sequence[int] = DEFAULT_CONTEXTS
    """Tokens of the prompts of streams that run together."""
    output_tokens: int = 64
    repeats: int = 3


async def measure(target: Target, grid: Grid, tell: Callable[[str], None]) -> list[Measured]:
    """Raises EndpointError where requests fail."""
    await _load(target, [(grid.prompts[0], 2)])  # the first request of a process is like no other
    points = []
    for tokens in grid.prompts:
        times_ms = [await _first_token_ms(target, tokens) for _ in range(grid.repeats)]
        points.append(Measured(tokens, 0, 1, 0, 0, median(times_ms)))
        tell(f"prefill of {tokens} tokens: {median(times_ms):.2f} ms")
    for context in grid.contexts:
        for batch in grid.batches:
            gaps_ms = [await _gap_ms(target, batch, context, grid.output_tokens) for _ in range(grid.repeats)]
            # The median gap is that of the middle of the answers.
            points.append(Measured(0, 0, 0, batch, context + grid.output_tokens // 2, median(gaps_ms)))
            tell(f"decode of {batch} sequences after {context} tokens: {median(gaps_ms):.2f} ms")
    return points


async def _first_token_ms(target: Target, tokens: int) -> float:
    _, results = await _load(target, [(tokens, 2)])
    ttft_s = results[0].ttft_s
    if ttft_s is None:
        raise EndpointError("an answer came without a first token")
    return ttft_s * 1e3


async def _gap_ms(target: Target, batch: int, context: int, output_tokens: int) -> float:
    report, _ = await _load(target, [(context, output_tokens)] * batch)
    gap_s = report.itl_s.p50
    if gap_s is None:
        raise EndpointError("answers came in one piece: gaps between tokens cannot be seen")
    return gap_s * 1e3


async def _load(target: Target, requests: Sequence[tuple[int, int]]) -> tuple[Report, list[RequestResult]]:
    """All at once; prompt and output tokens of each."""
    results: list[RequestResult] = []
    workload = [TraceRequest(0.0, prompt, output) for prompt, output in requests]
    plan = Plan(workload, RunFacts(trace="measuring"), FixedObjective(Slo()), LoadOptions())
    report = await Replay(target, plan, results.append).run()
    if report.completed < report.requests:
        raise EndpointError(f"requests failed: {', '.join(report.errors) or 'no reason given'}")
    return report, results
