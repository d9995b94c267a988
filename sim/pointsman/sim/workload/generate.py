"""Workloads drawn from published statistics, for machines that have no trace."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.sim.workload.prefix_trees import PrefixTrees
from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.statistics import Quantiles, TraceStatistics, mean_of

BATCH = 4096


@dataclass(frozen=True, slots=True)
class Generated:
    """`requests` requests with a trace's statistics: lengths and ages by inverse transform, gaps too or from a gamma law."""

    statistics: TraceStatistics
    requests: int
    seed: int = 0

    def request_count(self) -> int:
        return self.requests

    def __iter__(self) -> Iterator[TraceRequest]:
        rng = np.random.Generator(np.random.PCG64(self.seed))
        sharing = self.statistics.sharing
        trees = PrefixTrees(sharing) if sharing is not None else None
        arrival_s, left = 0.0, self.requests
        while left > 0:
            batch = min(BATCH, left)
            left -= batch
            prompts = _lengths(self.statistics.prompt_tokens, rng.random(batch))
            outputs = _lengths(self.statistics.output_tokens, rng.random(batch))
            gaps_s = self._gaps_s(rng, batch)
            if sharing is None or trees is None:
                for prompt, output, gap_s in zip(prompts, outputs, gaps_s, strict=True):
                    yield TraceRequest(arrival_s, prompt, output)
                    arrival_s += gap_s
                continue
            follows = (rng.random(batch) < sharing.follow_ups).tolist()
            longer = _lengths(sharing.prompt_tokens, rng.random(batch))
            answers = _lengths(sharing.output_tokens, rng.random(batch))
            shares = _values(sharing.shared_share, rng.random(batch)).tolist()
            ages_s = _values(sharing.age_s, rng.random(batch)).tolist()
            for i in range(batch):
                if follows[i]:
                    hash_ids = trees.follow(arrival_s, longer[i], ages_s[i], shares[i])
                    yield TraceRequest(arrival_s, longer[i], answers[i], hash_ids)
                else:
                    hash_ids = trees.fresh(arrival_s, prompts[i])
                    yield TraceRequest(arrival_s, prompts[i], outputs[i], hash_ids)
                arrival_s += gaps_s[i]

    def _gaps_s(self, rng: np.random.Generator, batch: int) -> list[float]:
        mean_s = 1.0 / self.statistics.requests_per_s
        table = self.statistics.gap_s
        if table is not None:
            drawn: list[float] = (_values(table, rng.random(batch)) * (mean_s / mean_of(table))).tolist()
            return drawn
        shape = self.statistics.gap_cv**-2
        gaps: list[float] = rng.gamma(shape, mean_s / shape, batch).tolist()
        return gaps


def _values(quantiles: Quantiles, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    at, values = zip(*quantiles, strict=True)
    drawn: NDArray[np.float64] = np.interp(shares, at, values)
    return drawn


def _lengths(quantiles: Quantiles, shares: NDArray[np.float64]) -> list[int]:
    drawn: list[int] = np.rint(_values(quantiles, shares)).astype(int).tolist()
    return drawn
