"""Workloads drawn from published statistics, for machines that have no trace."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pointsman.sim.workload.request import TraceRequest

BATCH = 4096

Quantiles = tuple[tuple[float, int], ...]
"""(share of requests, tokens) in rising order, from 0 to 1: lengths between two of them are equally likely."""


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """What is known of a trace without having it."""

    name: str
    source: str
    requests_per_s: float
    gap_cv: float
    """Coefficient of variation of the gaps between arrivals; 1 is Poisson."""
    prompt_tokens: Quantiles
    output_tokens: Quantiles


AZURE_CONVERSATION_2023 = TraceStatistics(
    name="azure-conversation-2023-like",
    source="statistics of the Azure LLM inference trace 2023 (conversation), Patel et al., Splitwise, ISCA 2024; CC-BY 4.0",
    requests_per_s=5.887,
    gap_cv=1.075,
    prompt_tokens=(
        (0.00, 2),
        (0.01, 30),
        (0.05, 181),
        (0.10, 212),
        (0.20, 386),
        (0.40, 436),
        (0.50, 1014),
        (0.75, 1203),
        (0.80, 1321),
        (0.85, 2066),
        (0.90, 3840),
        (0.95, 4085),
        (0.99, 4127),
        (0.999, 5936),
        (1.00, 14050),
    ),
    output_tokens=(
        (0.00, 7),
        (0.05, 40),
        (0.10, 51),
        (0.25, 81),
        (0.50, 115),
        (0.60, 159),
        (0.68, 224),
        (0.70, 375),
        (0.90, 421),
        (0.95, 448),
        (0.99, 598),
        (0.999, 939),
        (1.00, 1000),
    ),
)
"""Prompt and answer lengths hardly depend on each other there (Spearman 0.05), so they are drawn independently."""


@dataclass(frozen=True, slots=True)
class Generated:
    """`requests` requests with a trace's statistics: lengths by inverse transform, gaps from a gamma law."""

    statistics: TraceStatistics
    requests: int
    seed: int = 0

    def request_count(self) -> int:
        return self.requests

    def __iter__(self) -> Iterator[TraceRequest]:
        rng = np.random.Generator(np.random.PCG64(self.seed))
        shape = self.statistics.gap_cv**-2
        scale_s = 1.0 / (self.statistics.requests_per_s * shape)
        arrival_s, left = 0.0, self.requests
        while left > 0:
            batch = min(BATCH, left)
            left -= batch
            prompts = _lengths(self.statistics.prompt_tokens, rng.random(batch))
            outputs = _lengths(self.statistics.output_tokens, rng.random(batch))
            gaps_s = rng.gamma(shape, scale_s, batch)
            for prompt, output, gap_s in zip(prompts, outputs, gaps_s.tolist(), strict=True):
                yield TraceRequest(arrival_s, prompt, output)
                arrival_s += gap_s


def _lengths(quantiles: Quantiles, shares: np.ndarray) -> list[int]:
    at, tokens = zip(*quantiles, strict=True)
    drawn: list[int] = np.rint(np.interp(shares, at, tokens)).astype(int).tolist()
    return drawn
