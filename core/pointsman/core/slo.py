"""Service level objectives: what a request must meet to count as goodput."""

from dataclasses import dataclass

from pointsman.core.perf import AcceleratorClass, EngineProfile
from pointsman.core.units import to_s

DEFAULT_TTFT_BASE_S = 2.0
DEFAULT_TTFT_PREFILL_FACTOR = 2.0
DEFAULT_TPOT_S = {AcceleratorClass.A100: 0.100, AcceleratorClass.H100: 0.050}


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits in seconds; None: no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def met(self, ttft_s: float, tpot_s: float | None) -> bool:
        """Whether a finished answer met its limits. An answer of one token has no TPOT and meets it."""
        return (self.ttft_s is None or ttft_s <= self.ttft_s) and (
            self.tpot_s is None or tpot_s is None or tpot_s <= self.tpot_s
        )


def default_slo(profile: EngineProfile, prompt_tokens: int, chunk_tokens: int) -> Slo:
    """TTFT <= 2 s + 2x the request's own unloaded prefill; TPOT by accelerator class."""
    prefill_s = to_s(profile.cost.prefill_ps(prompt_tokens, chunk_tokens))
    return Slo(
        ttft_s=DEFAULT_TTFT_BASE_S + DEFAULT_TTFT_PREFILL_FACTOR * prefill_s,
        tpot_s=DEFAULT_TPOT_S[profile.accelerator_class],
    )
