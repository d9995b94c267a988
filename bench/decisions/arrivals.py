"""Requests with lengths that somebody measured, arriving at random: what the experiments from papers are played on."""

import csv
import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from pointsman.sim.workload.request import TraceRequest

Lengths = Sequence[tuple[int, int]]
"""(prompt tokens, output tokens) of requests."""


@cache
def trace_lengths(trace: Path) -> Lengths:
    with gzip.open(trace, "rt", encoding="utf-8", newline="") as lines:
        return [(int(row["prompt_tokens"]), int(row["output_tokens"])) for row in csv.DictReader(lines)]


def poisson(lengths: Lengths, rate: float, requests: int, seed: int) -> list[TraceRequest]:
    """`requests` of these lengths, drawn with replacement, at `rate` requests per second; 0: all at once.

    Equal seeds differ in the rate alone: the same requests come in the same order, closer together.
    """
    rng = Random(seed)
    arrived, at_s = [], 0.0
    for _ in range(requests):
        prompt, output = rng.choice(lengths)
        gap_s = rng.expovariate(1.0)
        arrived.append(TraceRequest(at_s, prompt, output))
        at_s += gap_s / rate if rate else 0.0
    return arrived


def matched_means(
    lengths: Lengths, mean_prompt: float, mean_output: float, most_tokens: int
) -> list[tuple[int, int]]:
    """`lengths` stretched so that their means are those, of requests with fewer than `most_tokens` altogether.

    Found by repetition: what is stretched beyond the limit is dropped, as whoever published the means did, and the rest is
    stretched anew.
    """
    stretch_prompt = stretch_output = 1.0
    kept: list[tuple[int, int]] = []
    for _ in range(200):
        stretched = [
            (max(1, round(prompt * stretch_prompt)), max(1, round(output * stretch_output)))
            for prompt, output in lengths
        ]
        kept = [pair for pair in stretched if sum(pair) < most_tokens]
        if not kept:
            break
        prompt = sum(pair[0] for pair in kept) / len(kept)
        output = sum(pair[1] for pair in kept) / len(kept)
        if abs(prompt / mean_prompt - 1) < 1e-3 and abs(output / mean_output - 1) < 1e-3:
            return kept
        stretch_prompt *= (mean_prompt / prompt) ** 0.7
        stretch_output *= (mean_output / output) ** 0.7
    raise ValueError(
        f"no stretch of these lengths has means of {mean_prompt} and {mean_output} below {most_tokens}"
    )
