"""What an engine costs: the time of one iteration of continuous batching, and the limits it runs under."""

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Compiled, products of `int` are quick up to 2^62 only where both factors are below 2^30, which picoseconds are not. 64
    # bits hold 106 days of them. Named in annotations of locals alone, which nothing evaluates: uncompiled they are integers.
    from mypy_extensions import i64


class Hinge(NamedTuple):
    """From `above` on, each further token or sequence of an iteration costs `each_ps` more: kernels fill up."""

    above: int
    each_ps: int


class Slope(NamedTuple):
    """From `above` tokens of an iteration up to where the next slope begins, each token costs `each_ps`."""

    above: int
    each_ps: int


@dataclass(frozen=True, slots=True)
class IterationCost:
    """Coefficients of one iteration's time, integers in picoseconds, all >= 0.

        t_iter = t0 + [P > 0]*t0p + [B > 0]*t0b + tn*N + tp*P + ta*A + tb*B + tc*C + f(P + B)
                 + sum over prefill hinges of each*max(0, P - above) + sum over decode hinges of each*max(0, B - above)

    N prompts of which a chunk is computed in the iteration, P their tokens; A = sum over the chunks of
    chunk * (context before + chunk/2); B sequences that decode; C total context tokens of those sequences. Time rises
    in N, P, A, B and C.
    Phases differ in their fixed cost (decode replays captured graphs), and measured time is flat in P until the
    weights' read is hidden and steepens again when the kernels are full: t0p, t0b and the hinges hold that.
    f is what all tokens of an iteration cost together, whichever phase they are of: matrices are multiplied once for
    both. It is piecewise linear and rises, but need not be convex: the first tokens of a mixture of experts each wake
    experts of their own.
    """

    t0_ps: int
    tp_ps: int
    ta_ps: int
    tb_ps: int
    tc_ps: int
    t0p_ps: int = 0
    t0b_ps: int = 0
    prefill_hinges: tuple[Hinge, ...] = ()
    decode_hinges: tuple[Hinge, ...] = ()
    tn_ps: int = 0
    token_slopes: tuple[Slope, ...] = ()
    """Slopes of f by rising `above`; f is 0 up to the first."""
    _bends: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _at_bends_ps: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """f where each slope begins, so that f is one look-up, however many slopes it has."""
    _decode_bases: dict[int, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    """`t0 + decode_base_ps` by sequences, as far as it was asked for: there are few numbers of sequences and many runs."""

    def __post_init__(self) -> None:
        at_ps = [0]
        for (above, each_ps), (end, _) in pairwise(self.token_slopes):
            at_ps.append(at_ps[-1] + each_ps * (end - above))
        object.__setattr__(self, "_bends", tuple(slope.above for slope in self.token_slopes))
        object.__setattr__(self, "_at_bends_ps", tuple(at_ps))

    def iteration_ps(
        self,
        prefill_tokens: int,
        prefill_attention_x2: int,
        decode_sequences: int,
        decode_context_tokens: int,
        prefill_chunks: int = 1,
    ) -> int:
        """Time of one iteration. `prefill_attention_x2` is 2A, an integer: sum of chunk * (2*before + chunk)."""
        time_ps: i64 = self.t0_ps
        if prefill_tokens:
            tokens: i64 = prefill_tokens
            attention_x2: i64 = prefill_attention_x2
            time_ps += self.t0p_ps + self.tp_ps * tokens + self.ta_ps * attention_x2 // 2
            time_ps += self.tn_ps * prefill_chunks
            for above, each_ps in self.prefill_hinges:
                if prefill_tokens > above:
                    time_ps += each_ps * (tokens - above)
        if decode_sequences:
            context_tokens: i64 = decode_context_tokens
            time_ps += self._decode_ps(decode_sequences) + self.tc_ps * context_tokens
        if self.token_slopes:
            time_ps += self.tokens_ps(prefill_tokens + decode_sequences)
        return time_ps

    def tokens_ps(self, tokens: int) -> int:
        """f: what an iteration's tokens cost together, of whichever phase they are."""
        index = bisect_left(self._bends, tokens) - 1
        if index < 0:
            return 0
        above, each_ps = self.token_slopes[index]
        return self._at_bends_ps[index] + each_ps * (tokens - above)

    def decode_base_ps(self, decode_sequences: int) -> int:
        """What `decode_sequences` > 0 add to an iteration of their own, without t0 and before their context counts."""
        return self._decode_ps(decode_sequences) + self.tokens_ps(decode_sequences)

    def _decode_ps(self, decode_sequences: int) -> int:
        base_ps = self.t0b_ps + self.tb_ps * decode_sequences
        for above, each_ps in self.decode_hinges:
            if decode_sequences > above:
                base_ps += each_ps * (decode_sequences - above)
        return base_ps

    def decode_run_ps(self, iterations: int, decode_sequences: int, decode_context_tokens: int) -> int:
        """Time of `iterations` consecutive iterations that only decode, the same sequences in each.

        `decode_context_tokens` is the first iteration's; every iteration adds one token to each sequence. Equals
        the sum of the single iterations exactly: n*base + tc * (n*C + B*n*(n-1)/2).
        """
        first_ps = self.decode_first_ps(decode_sequences, decode_context_tokens)
        return rising_ps(iterations, first_ps, self.tc_ps * decode_sequences)

    def decode_first_ps(self, decode_sequences: int, decode_context_tokens: int) -> int:
        """Time of the first iteration of a run that only decodes; each later one takes `tc_ps * decode_sequences` more."""
        base_ps = self._decode_bases.get(decode_sequences)
        if base_ps is None:
            base_ps = self.t0_ps + self.decode_base_ps(decode_sequences)
            self._decode_bases[decode_sequences] = base_ps
        context_tokens: i64 = decode_context_tokens
        return base_ps + self.tc_ps * context_tokens

    def decode_iterations_until(self, span_ps: int, decode_sequences: int, decode_context_tokens: int) -> int:
        """The fewest iterations, at least 1, with `decode_run_ps` of at least `span_ps`."""
        first_ps = self.decode_first_ps(decode_sequences, decode_context_tokens)
        return iterations_until(span_ps, first_ps, self.tc_ps * decode_sequences)

    def prefill_ps(self, prompt_tokens: int, chunk_tokens: int, cached_tokens: int = 0) -> int:
        """Time to prefill a prompt alone on an idle engine, in chunks of at most `chunk_tokens`."""
        cached = min(cached_tokens, prompt_tokens - 1)
        whole, rest = divmod(prompt_tokens - cached, chunk_tokens)
        total_ps = 0
        if whole:
            first_ps = self.iteration_ps(chunk_tokens, chunk_tokens * (2 * cached + chunk_tokens), 0, 0)
            # Each further chunk attends to one more chunk before it.
            total_ps = rising_ps(whole, first_ps, self.ta_ps * chunk_tokens * chunk_tokens)
        if rest:
            before = prompt_tokens - rest
            total_ps += self.iteration_ps(rest, rest * (2 * before + rest), 0, 0)
        return total_ps


def rising_ps(iterations: int, first_ps: int, step_ps: int) -> int:
    """Time of iterations of which each takes `step_ps` longer than the one before."""
    n: i64 = iterations
    return n * first_ps + step_ps * (n * (n - 1) // 2)


def iterations_until(span_ps: int, first_ps: int, step_ps: int) -> int:
    """The fewest iterations, at least 1, with `rising_ps` of at least `span_ps`."""
    if span_ps <= first_ps:
        return 1
    # Their time is (x*n^2 + y*n) / 2: its positive root as floats have it, then set right to the unit in integers, which
    # are small where the square of y is not.
    y = float(2 * first_ps - step_ps)
    root = sqrt(y * y + 8.0 * float(step_ps) * float(span_ps))
    iterations = int(4.0 * float(span_ps) / (y + root))
    while rising_ps(iterations, first_ps, step_ps) < span_ps:
        iterations += 1
    while rising_ps(iterations - 1, first_ps, step_ps) >= span_ps:
        iterations -= 1
    return iterations


@dataclass(frozen=True, slots=True)
class StartupTimes:
    """Seconds until an instance serves, by what is already there."""

    cold_s: float = 180.0
    image_cached_s: float = 90.0
    weights_cached_s: float = 40.0
    asleep_s: float = 3.0


class AcceleratorClass(StrEnum):
    """Decides the default TPOT limit: 100 ms on A100-class, 50 ms on H100-class accelerators and newer."""

    A100 = "a100"
    H100 = "h100"


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine on one accelerator shape serving one model: cost of an iteration, and capacity."""

    name: str
    model: str
    engine: str
    accelerator: str
    accelerator_class: AcceleratorClass
    tensor_parallel: int
    cost: IterationCost
    kv_capacity_tokens: int
    kv_bytes_per_token: int
    transfer_bytes_per_s: float
    block_size: int = 16
    max_batched_tokens: int = 2048
    max_sequences: int = 256
    max_context_tokens: int = 0
    """Longest prompt plus answer. 0: the KV capacity."""
    startup: StartupTimes = field(default_factory=StartupTimes)

    @property
    def longest_context_tokens(self) -> int:
        return self.max_context_tokens or self.kv_capacity_tokens

    def transfer_s(self, tokens: int) -> float:
        """Time to move the KV of `tokens` between two instances at full bandwidth."""
        return tokens * self.kv_bytes_per_token / self.transfer_bytes_per_s
