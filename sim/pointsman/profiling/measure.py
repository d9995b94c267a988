"""Iteration times of a live engine, through its OpenAI endpoint, with nothing else on it.

Three things are asked. A prompt alone tells what its prefill takes: by the engine's own account where its `/metrics`
give one (vLLM's do), else the time to the first token, which holds what HTTP and tokenising take as well. Streams that
run together tell what an iteration of so many sequences takes: the median gap between their tokens. Prompts that come
while streams run tell what an iteration of both takes: the gap of the streams that ends when the prompt's first token
comes. Prompts are new each time, so that no prefix is cached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from pointsman.loadgen.replay import EndpointError, Target
from pointsman.profiling.points import Measured
from pointsman.profiling.probe import Probe, Seen
from pointsman.sim.workload.request import TraceRequest

DEFAULT_PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DEFAULT_BATCHES = (1, 2, 4, 8, 16, 32, 64)
DEFAULT_CONTEXTS = (64, 512)
DEFAULT_JOINING = (32, 128, 512, 1024)
JOINING_A_RUN = 4
"""Prompts that come while the same streams run, one after the other."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured. No prompt may be longer than the engine's token budget, or it is cut up."""

    prompts: Sequence[int] = DEFAULT_PROMPTS
    """Tokens of prompts that are computed alone."""
    batches: Sequence[int] = DEFAULT_BATCHES
    contexts: Sequence[int] = DEFAULT_CONTEXTS
    """Tokens of the prompts of streams that run together."""
    joining: Sequence[int] = DEFAULT_JOINING
    """Tokens of prompts that come while streams run: each beside every other size of `batches`, after the first context."""
    output_tokens: int = 64
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Streams:
    """What was seen of streams that ran together."""

    seen: list[Seen]

    @property
    def gap_s(self) -> float:
        gaps_s = [later - earlier for one in self.seen for earlier, later in pairwise(one.tokens_s)]
        if not any(gaps_s):
            raise EndpointError("answers came in one piece: gaps between tokens cannot be seen")
        return median(gaps_s)

    @property
    def together_s(self) -> tuple[float, float]:
        """From the last stream's first token to the first stream's last, after the run's start."""
        return max(one.tokens_s[0] for one in self.seen), min(one.tokens_s[-1] for one in self.seen)

    @property
    def prompt_tokens(self) -> float:
        return fmean(one.prompt_tokens for one in self.seen)


async def measure(target: Target, grid: Grid, tell: Callable[[str], None]) -> list[Measured]:
    """Raises EndpointError where requests fail."""
    probe = Probe(target)
    try:
        await probe.prefill_alone(grid.prompts[0])  # the first request of a process is like no other
        points = await _prefills(probe, grid, tell)
        together: dict[int, Streams] = {}
        for context in grid.contexts:
            for batch in grid.batches:
                streams = [await _streams(probe, grid, batch, context) for _ in range(grid.repeats)]
                together.setdefault(batch, streams[-1])
                # The median gap is that of the middle of the answers.
                held = round(streams[0].prompt_tokens) + grid.output_tokens // 2
                points.append(Measured(0, 0, 0, batch, held, median(one.gap_s for one in streams) * 1e3))
                tell(f"decode of {batch} sequences of {held} tokens: {points[-1].time_ms:.2f} ms")
        for batch in grid.batches[1::2]:
            for tokens in grid.joining:
                points += await _mixed(probe, grid, (tokens, batch), together[batch], tell)
    finally:
        probe.close()
    return points


async def _prefills(probe: Probe, grid: Grid, tell: Callable[[str], None]) -> list[Measured]:
    points, over_ms = [], []
    for tokens in grid.prompts:
        found = [await probe.prefill_alone(tokens) for _ in range(grid.repeats)]
        own_s = [told_s for _, told_s in found if told_s is not None]
        time_s = median(own_s or [seen.ttft_s for seen, _ in found])
        over_ms += [(seen.ttft_s - told_s) * 1e3 for seen, told_s in found if told_s is not None]
        points.append(Measured(found[0][0].prompt_tokens, 0, 1, 0, 0, time_s * 1e3))
        tell(f"prefill of {points[-1].chunk_tokens} tokens: {points[-1].time_ms:.2f} ms")
    if over_ms:
        tell(f"first tokens reach the client {median(over_ms):.2f} ms later than the engine's core says")
    else:
        tell("the engine does not say how long prefill takes: these are times to the first token")
    return points


async def _streams(probe: Probe, grid: Grid, batch: int, context: int) -> Streams:
    return Streams(await probe.play([TraceRequest(0.0, context, grid.output_tokens)] * batch))


async def _mixed(
    probe: Probe, grid: Grid, sizes: tuple[int, int], before: Streams, tell: Callable[[str], None]
) -> list[Measured]:
    """One point, or none where no prompt came while all streams ran. `before` are the same streams by themselves."""
    tokens, batch = sizes
    start_s, end_s = before.together_s
    every_s = (end_s - start_s) / JOINING_A_RUN
    streams = [TraceRequest(0.0, grid.contexts[0], grid.output_tokens)] * batch
    joining = [TraceRequest(start_s + (place + 0.5) * every_s, tokens, 1) for place in range(JOINING_A_RUN)]
    found: list[tuple[float, float]] = []
    asked = tokens
    for _ in range(grid.repeats):
        seen = await probe.play([*streams, *joining])
        asked = seen[-1].prompt_tokens
        found += [
            shared
            for one in seen[batch:]
            if (shared := shared_iteration(seen[:batch], one.tokens_s[0])) is not None
        ]
    if not found:
        tell(f"no prompt of {tokens} tokens came while {batch} streams ran: --output-tokens is too small")
        return []
    gap_s, held = median(gap for gap, _ in found), fmean(held for _, held in found)
    tell(f"prefill of {asked} tokens beside {batch} sequences: {gap_s * 1e3:.2f} ms")
    return [Measured(asked, 0, 1, batch, round(held), gap_s * 1e3)]


def shared_iteration(streams: Sequence[Seen], end_s: float) -> tuple[float, float] | None:
    """What streams saw of the iteration that ended then: the median gap that ends nearest, in seconds, and the mean
    context. None where one of them did not run yet or any more.
    """
    gaps_s, held = [], []
    for one in streams:
        place = min(range(len(one.tokens_s)), key=lambda number: abs(one.tokens_s[number] - end_s))
        if not 0 < place < len(one.tokens_s) - 1:
            return None
        gaps_s.append(one.tokens_s[place] - one.tokens_s[place - 1])
        held.append(one.prompt_tokens + place)
    return median(gaps_s), fmean(held)
