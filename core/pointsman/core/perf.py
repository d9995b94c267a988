"""What an engine costs: the time of one iteration of continuous batching, and the limits it runs under."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class IterationCost:
    """Coefficients of one iteration's time, integers in picoseconds, all >= 0.

        t_iter = t0 + tp*P + ta*A + tb*B + tk*max(0, B - knee) + tc*C

    P prefill tokens in the iteration; A = sum over prefill chunks of chunk * (context before + chunk/2);
    B sequences that decode; C total context tokens of those sequences. The knee is where decoding turns from
    bound by memory bandwidth to bound by compute, which DistServe's measurements show at a batch of 95.
    """

    t0_ps: int
    tp_ps: int
    ta_ps: int
    tb_ps: int
    tc_ps: int
    tk_ps: int = 0
    knee: int = 0

    def iteration_ps(
        self,
        prefill_tokens: int,
        prefill_attention_x2: int,
        decode_sequences: int,
        decode_context_tokens: int,
    ) -> int:
        """Time of one iteration. `prefill_attention_x2` is 2A, an integer: sum of chunk * (2*before + chunk)."""
        beyond = decode_sequences - self.knee
        return (
            self.t0_ps
            + self.tp_ps * prefill_tokens
            + self.ta_ps * prefill_attention_x2 // 2
            + self.tb_ps * decode_sequences
            + (self.tk_ps * beyond if beyond > 0 else 0)
            + self.tc_ps * decode_context_tokens
        )

    def prefill_ps(self, prompt_tokens: int, chunk_tokens: int, cached_tokens: int = 0) -> int:
        """Time to prefill a prompt alone on an idle engine, in chunks of at most `chunk_tokens`."""
        total, before = 0, min(cached_tokens, prompt_tokens - 1)
        while before < prompt_tokens:
            chunk = min(chunk_tokens, prompt_tokens - before)
            total += self.iteration_ps(chunk, chunk * (2 * before + chunk), 0, 0)
            before += chunk
        return total


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
