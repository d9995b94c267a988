"""Iteration times of a live engine, through its OpenAI endpoint, with nothing else on it.

Three things are asked. A prompt alone tells what its prefill takes: by the engine's own account where its `/metrics`
give one (vLLM's do), else the time to the first token, which holds what HTTP and tokenising take as well. Streams that
run together tell what an iteration of so many sequences takes: the median gap between their tokens. Prompts that come
while streams run tell what an iteration of both takes: the longest gap of the streams meanwhile. Prompts are new each
time, so that no prefix is cached.
"""

from bisect import bisect
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
LEAST_GAPS = 4
"""Of each stream, while all run."""
MOST_LONGER = 16
"""Times the answers that were asked for."""


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
    def together_s(self) -> tuple[float, float]:
        """From the last stream's first token to the first stream's last, after the run's start."""
        return max(one.tokens_s[0] for one in self.seen), min(one.tokens_s[-1] for one in self.seen)

    @property
    def gap_s(self) -> float | None:
        """The median gap while all ran. None: they never did, or too shortly to tell."""
        start_s, end_s = self.together_s
        gaps_s = [
            later - earlier
            for one in self.seen
            for earlier, later in pairwise(one.tokens_s)
            if start_s <= earlier and later <= end_s
        ]
        return median(gaps_s) if len(gaps_s) >= LEAST_GAPS * len(self.seen) else None

    @property
    def context(self) -> float:
        """Tokens that each held on average in the middle of the time in which all ran."""
        middle_s = fmean(self.together_s)
        return fmean(one.prompt_tokens + bisect(one.tokens_s, middle_s) for one in self.seen)

    @property
    def head_start(self) -> int:
        """Tokens that the first of them had when the last began."""
        start_s, _ = self.together_s
        return max(bisect(one.tokens_s, start_s) for one in self.seen)


async def measure(target: Target, grid: Grid, tell: Callable[[str], None]) -> list[Measured]:
    """Raises EndpointError where requests fail."""
    probe = Probe(target)
    try:
        await probe.prefill_alone(grid.prompts[0])  # the first request of a process is like no other
        points = await _prefills(probe, grid, tell)
        together: dict[int, Streams] = {}
        for context in grid.contexts:
            for batch in grid.batches:
                streams = await _together(probe, grid, batch, context)
                together.setdefault(batch, streams[-1])
                gaps_s = [one.gap_s for one in streams if one.gap_s is not None]
                if not gaps_s:
                    tell(f"{batch} streams never ran together: --output-tokens is too small")
                    continue
                if not any(gaps_s):
                    raise EndpointError("answers came in one piece: gaps between tokens cannot be seen")
                held = round(fmean(one.context for one in streams))
                points.append(Measured(0, 0, 0, batch, held, median(gaps_s) * 1e3))
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


async def _together(probe: Probe, grid: Grid, batch: int, context: int) -> list[Streams]:
    """As often as asked. Answers are longer where the first would be over before the last prompt is computed."""
    tokens, found = grid.output_tokens, list[Streams]()
    for _ in range(grid.repeats):
        streams = Streams(await probe.play([TraceRequest(0.0, context, tokens)] * batch))
        tokens = max(tokens, grid.output_tokens + min(streams.head_start, grid.output_tokens * MOST_LONGER))
        if streams.gap_s is None:
            streams = Streams(await probe.play([TraceRequest(0.0, context, tokens)] * batch))
        found.append(streams)
    return found


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
        alone_s = undisturbed_gap_s(seen[:batch], seen[batch:])
        found += [
            shared
            for one in seen[batch:]
            if (shared := shared_iteration(seen[:batch], one, alone_s)) is not None
        ]
    if not found:
        tell(f"no prompt of {tokens} tokens came while {batch} streams ran: --output-tokens is too small")
        return []
    gap_s, held = median(gap for gap, _ in found), fmean(held for _, held in found)
    tell(f"prefill of {asked} tokens beside {batch} sequences: {gap_s * 1e3:.2f} ms")
    return [Measured(asked, 0, 1, batch, round(held), gap_s * 1e3)]


def undisturbed_gap_s(streams: Sequence[Seen], joined: Sequence[Seen]) -> float:
    """The median gap between tokens of streams while no prompt came."""
    return median(
        later - earlier
        for one in streams
        for earlier, later in pairwise(one.tokens_s)
        if not any(prompt.sent_s < later and earlier < prompt.tokens_s[0] for prompt in joined)
    )


def shared_iteration(streams: Sequence[Seen], joined: Seen, alone_s: float) -> tuple[float, float] | None:
    """What streams saw of the iteration that computed a prompt, in seconds, and the mean context: by how much the gaps that
    ended between its sending and its first token were longer than as many of `alone_s`, and one of these; the median of all streams.
    None where one of them did not run all that time.

    All these gaps and not the longest alone, since a prompt has its price before and behind the iteration that computes it, too: it is parsed,
    queued and handed to workers while streams wait. Its first token is no sign of the moment: it takes longer through the server than
    those of running streams.
    """
    start_s, end_s = joined.sent_s, joined.tokens_s[0]
    times_s, held = [], []
    for one in streams:
        if one.tokens_s[0] > start_s or one.tokens_s[-1] < end_s:
            return None
        gaps = [
            (later - earlier, one.prompt_tokens + place)
            for place, (earlier, later) in enumerate(pairwise(one.tokens_s), start=1)
            if start_s < later <= end_s
        ]
        if not gaps:
            return None
        times_s.append(sum(gap_s for gap_s, _ in gaps) - (len(gaps) - 1) * alone_s)
        held.append(max(gaps)[1])
    return median(times_s), fmean(held)
