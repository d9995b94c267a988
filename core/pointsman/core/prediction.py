"""What a request would get on each of many instances, and what their memory comes to: predictions from profiles.

All assume that nobody else joins or leaves meanwhile. Both happen: a prediction is a ranking first and a number second,
and gets better the shorter it looks ahead. Numbers are floats in seconds; decisions that need ties broken alike on every
machine compare the integers of `core.perf`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.core.perf import EngineProfile, Hinge, IterationCost
from pointsman.core.units import PS_PER_S

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Work:
    """What each of some instances has to do, one number per instance."""

    prefill_tokens: FloatArray
    """Prompt tokens placed there and not computed yet."""
    decode_sequences: FloatArray
    context_tokens: FloatArray
    """Of the sequences that decode."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Seconds, one number per instance."""

    ttft_s: FloatArray
    """Until the first token, after what is placed there already."""
    tpot_s: FloatArray
    """Per further token, on average."""
    e2e_s: FloatArray
    slowdown_s: FloatArray
    """What the prompt's computing adds to every answer that is being decoded there."""


def joining(
    profile: EngineProfile,
    chunk_tokens: int,
    work: Work,
    prompt_tokens: int,
    cached_tokens: FloatArray,
    output_tokens: float,
) -> Outlook:
    """What a request would get on instances of one profile.

    `cached_tokens` of the prompt are there already, per instance. Iterations are full: what the token budget leaves beside
    the sequences that decode. Prompts that wait before it count as prompts of a chunk each.
    """
    cost = profile.cost
    sequences = work.decode_sequences
    budget = np.maximum(1.0, chunk_tokens - sequences)
    own = np.maximum(1.0, prompt_tokens - cached_tokens)
    first_s = _prefill_s(cost, chunk_tokens, work, budget, work.prefill_tokens + own)
    attention = (prompt_tokens**2 - np.minimum(cached_tokens, prompt_tokens - 1) ** 2) / 2
    ttft_s = first_s + (cost.ta_ps * (attention + work.prefill_tokens * chunk_tokens / 2)) / PS_PER_S
    alone_s = _decode_s(cost, sequences, work.context_tokens)
    further = max(0.0, output_tokens - 1)
    mean_context = work.context_tokens + prompt_tokens + (sequences + 1) * further / 2
    tpot_s = _decode_s(cost, sequences + 1, mean_context)
    # Meanwhile those who decode get a token per iteration, as they would have.
    iterations = np.ceil((work.prefill_tokens + own) / budget)
    waiting_s = _prefill_s(cost, chunk_tokens, work, budget, work.prefill_tokens)
    own_iterations = iterations - np.ceil(work.prefill_tokens / budget)
    slowdown_s = np.where(sequences > 0, np.maximum(0.0, first_s - waiting_s - own_iterations * alone_s), 0.0)
    return Outlook(ttft_s, tpot_s, ttft_s + further * tpot_s, slowdown_s)


@dataclass(frozen=True, slots=True)
class Links:
    """How KV gets from a source to each of some instances: both ends move one transfer after the other."""

    s_per_token: FloatArray
    """The slower end's, one number per instance."""
    free_in_s: FloatArray
    """Until both ends have moved what was asked of them before; 0: now."""

    @classmethod
    def between(
        cls, source: EngineProfile, targets: Sequence[EngineProfile], free_in_s: FloatArray
    ) -> "Links":
        """From an instance of one profile to instances of others, which are free of earlier transfers then."""
        own_s = source.transfer_s(1)
        return cls(np.array([max(own_s, target.transfer_s(1)) for target in targets], np.float64), free_in_s)


def transfer_s(links: Links, prompt_tokens: int, held_tokens: FloatArray) -> FloatArray:
    """Until the KV of a prompt is on each instance that holds `held_tokens` of its prefix already. 0 where nothing is
    left to move. Setting a connection up is not in it.
    """
    moved = np.maximum(0.0, prompt_tokens - held_tokens)
    return np.where(moved > 0, links.free_in_s + moved * links.s_per_token, 0.0)


def iteration_s(
    cost: IterationCost,
    prefill: FloatArray,
    attention: FloatArray,
    sequences: FloatArray,
    context: FloatArray,
) -> FloatArray:
    """`IterationCost.iteration_ps` in seconds, for many iterations of a prompt chunk each."""
    time_ps = cost.t0_ps + tokens_ps(cost, prefill + sequences)
    prefilling = cost.t0p_ps + cost.tn_ps + cost.tp_ps * prefill + cost.ta_ps * attention
    time_ps = time_ps + np.where(prefill > 0, prefilling + _hinged(cost.prefill_hinges, prefill), 0.0)
    decoding = cost.t0b_ps + cost.tb_ps * sequences + cost.tc_ps * context
    time_ps = time_ps + np.where(sequences > 0, decoding + _hinged(cost.decode_hinges, sequences), 0.0)
    return np.asarray(time_ps / PS_PER_S, dtype=np.float64)


def tokens_ps(cost: IterationCost, tokens: FloatArray) -> FloatArray:
    """`IterationCost.tokens_ps`, for many."""
    if not cost.token_slopes:
        return np.zeros_like(tokens)
    bends = [slope.above for slope in cost.token_slopes]
    at = [cost.tokens_ps(bend) for bend in bends]
    last = cost.token_slopes[-1]
    inside = np.interp(tokens, bends, at)
    return np.asarray(inside + last.each_ps * np.maximum(0.0, tokens - last.above), dtype=np.float64)


def kv_tokens(contexts: Sequence[int], left: Sequence[int], iterations: Sequence[int]) -> list[int]:
    """KV tokens that sequences hold after so many iterations each: one more per iteration, none once they have ended.

    `left` are the tokens each has yet to generate; a sequence holds its KV up to the iteration that generates its last.
    """
    held = np.asarray(contexts, np.int64)[:, None]
    ends = np.asarray(left, np.int64)[:, None]
    steps = np.asarray(iterations, np.int64)[None, :]
    return [int(total) for total in np.where(steps < ends, held + steps, 0).sum(axis=0)]


def kv_peak(contexts: Sequence[int], left: Sequence[int]) -> tuple[int, int]:
    """The most KV tokens that sequences will hold, and after how many iterations: just before one of them ends."""
    if not contexts:
        return 0, 0
    moments = sorted({0, *(max(0, tokens - 1) for tokens in left)})
    totals = kv_tokens(contexts, left, moments)
    most = max(totals)
    return most, moments[totals.index(most)]


def _prefill_s(
    cost: IterationCost, chunk_tokens: int, work: Work, budget: FloatArray, tokens: FloatArray
) -> FloatArray:
    """Iterations that compute so many prompt tokens beside what decodes, without attention over prompts."""
    none = np.zeros_like(budget)
    whole = np.floor(tokens / budget)
    rest = tokens - whole * budget
    iterations = whole + (rest > 0)
    sequences = work.decode_sequences
    full_s = iteration_s(cost, np.minimum(budget, chunk_tokens), none, sequences, work.context_tokens)
    last_s = np.where(rest > 0, iteration_s(cost, rest, none, sequences, work.context_tokens), 0.0)
    grown = cost.tc_ps * sequences * iterations * (iterations - 1) / 2 / PS_PER_S
    return np.asarray(whole * full_s + last_s + grown, dtype=np.float64)


def _decode_s(cost: IterationCost, sequences: FloatArray, context: FloatArray) -> FloatArray:
    none = np.zeros_like(sequences)
    return iteration_s(cost, none, none, sequences, context)


def _hinged(hinges: tuple[Hinge, ...], amount: FloatArray) -> FloatArray:
    total = np.zeros_like(amount)
    for above, each_ps in hinges:
        total = total + each_ps * np.maximum(0.0, amount - above)
    return total
