"""Which limits a request is judged by, and how that is said in a report."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from pointsman.core.perf import AcceleratorClass, EngineProfile
from pointsman.core.slo import (
    DEFAULT_TPOT_S,
    DEFAULT_TTFT_BASE_S,
    DEFAULT_TTFT_PREFILL_FACTOR,
    Slo,
    default_slo,
)

DEFAULT_CHUNK_TOKENS = 2048


class Objective(Protocol):
    """The SLO of each request of a run."""

    @property
    def rule(self) -> str:
        """The limits in words."""

    @property
    def same_for_all(self) -> Slo | None: ...

    def of(self, prompt_tokens: int) -> Slo: ...


@dataclass(frozen=True)
class FixedObjective:
    """One limit for all requests."""

    slo: Slo
    note: str = ""

    @cached_property
    def rule(self) -> str:
        limits = (("TTFT", self.slo.ttft_s), ("TPOT", self.slo.tpot_s))
        rule = ", ".join(f"{name} <= {limit_s:g} s" for name, limit_s in limits if limit_s is not None)
        return f"{rule} ({self.note})" if self.note else rule

    @property
    def same_for_all(self) -> Slo | None:
        return self.slo

    def of(self, prompt_tokens: int) -> Slo:  # noqa: ARG002 - the protocol's
        return self.slo


DEFAULT_OBJECTIVE = FixedObjective(
    Slo(ttft_s=DEFAULT_TTFT_BASE_S, tpot_s=DEFAULT_TPOT_S[AcceleratorClass.A100]),
    note="default without a profile",
)


@dataclass(frozen=True)
class ProfileObjective:
    """The default: TTFT by the request's own unloaded prefill, TPOT by the accelerator's class."""

    profile: EngineProfile
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS

    @cached_property
    def rule(self) -> str:
        tpot_s = DEFAULT_TPOT_S[self.profile.accelerator_class]
        return (
            f"TTFT <= {DEFAULT_TTFT_BASE_S:g} s + {DEFAULT_TTFT_PREFILL_FACTOR:g} x own unloaded prefill, "
            f"TPOT <= {tpot_s:g} s (default for {self.profile.name})"
        )

    @property
    def same_for_all(self) -> Slo | None:
        return None

    def of(self, prompt_tokens: int) -> Slo:
        return default_slo(self.profile, prompt_tokens, self.chunk_tokens)


def parse_slo(text: str) -> Slo:
    """`ttft=S,tpot=S`, either may be left out, seconds above 0. Raises ValueError."""
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in ("ttft", "tpot") or not equals:
            raise ValueError(f"{part.strip()!r} is not ttft=SECONDS or tpot=SECONDS")
        if name in limits:
            raise ValueError(f"{name} is given twice")
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"{name}={value}: not a number of seconds above 0")
        limits[name] = seconds
    return Slo(ttft_s=limits.get("ttft"), tpot_s=limits.get("tpot"))
