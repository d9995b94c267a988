"""What is known of a trace without having it."""

from dataclasses import dataclass
from itertools import pairwise

Quantiles = tuple[tuple[float, float], ...]
"""(share of requests, value) in rising order, from 0 to 1: values between two of them are equally likely."""


@dataclass(frozen=True, slots=True)
class PrefixSharing:
    """How prompts repeat former ones, in blocks of `HASH_BLOCK_TOKENS`; see `prefix_trees`."""

    common_blocks: int
    """With which every prompt begins: a system prompt."""
    follow_ups: float
    """Share of requests that repeat more than that of an earlier prompt."""
    prompt_tokens: Quantiles
    """Of follow-ups, what is repeated included."""
    output_tokens: Quantiles
    """Of follow-ups."""
    shared_share: Quantiles
    """Which part of a follow-up's blocks is repeated."""
    age_s: Quantiles
    """Time since the request that it follows."""


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """Lengths, arrivals and prefixes of a trace."""

    name: str
    source: str
    requests_per_s: float
    prompt_tokens: Quantiles
    """With `sharing`, of requests that follow none."""
    output_tokens: Quantiles
    """With `sharing`, of requests that follow none."""
    gap_cv: float = 1.0
    """Coefficient of variation of the gaps between arrivals, which are gamma distributed; 1 is Poisson."""
    gap_s: Quantiles | None = None
    """The gaps themselves, where no gamma law fits; only their ratios count, the mean is that of `requests_per_s`."""
    sharing: PrefixSharing | None = None


def mean_of(quantiles: Quantiles) -> float:
    """Of the law that the quantiles describe."""
    pairs = pairwise(quantiles)
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairs)
