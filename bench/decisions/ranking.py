"""Learning to rank (Fu et al., NeurIPS 2024): shortest predicted first, by how well predictions rank.

One engine that runs so many requests at once; the others wait in the router (late binding). Answer lengths are
those of Llama-3-8B-Instruct on AlpacaEval, drawn with replacement; a burst of 2,000, and Poisson arrivals.
Measured is the mean over requests of end-to-end time per output token, as in the paper.

The engine is set as in the authors' fork of vLLM 0.4.1, hao-ai-lab/vllm-ltr@13bbf6ff3dab: an A100 of 40 GB, chunked
prefill with 768 tokens an iteration, 256 sequences, requests of at least 4 tokens on either side and prompts of up to
1,024.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
from decisions.arrivals import Lengths, poisson
from decisions.cluster_run import Setup, play
from decisions.runs import processes, remembered

from pointsman.api.profile import load_profile
from pointsman.cli.report_view import write_json
from pointsman.core.instances import Role
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine import EngineOptions
from pointsman.sim.pools import Pool
from pointsman.sim.predictors import NoisyPredictor, NoPredictor, Predictor, calibrated_deviation, kendall_tau

REQUESTS = 2000
RATES = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Requests per second; 0: all at once."""
TAUS = (0.24, 0.54, 0.62, 0.74, 1.0)
BOUNDED_TAUS = (0.54, 1.0)
BOUND_S = 60.0
NO_BOUND_S = 1e9
SEEDS = (1, 2, 3, 4, 5)
MODEL = "Meta-Llama-3-8B-Instruct"
PROFILE = "a100-llama3.1-8b"
KV_CAPACITY_TOKENS = 144_000
"""Of 40 GB: nine tenths, less 16.1 GB of weights and 1 GB of activations, at 131,072 bytes a token."""
CHUNK = 768
AT_ONCE = 256
LEAST_TOKENS = 4
MOST_PROMPT_TOKENS = 1024
FILE = Path("bench/decisions/ranking.json")

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    rate: float
    order: str
    tau: float
    """Of the predictions; 0: none are needed."""
    bound_s: float = NO_BOUND_S
    """Whoever has waited longer goes first."""


def cases() -> Iterator[Case]:
    for rate in RATES:
        yield Case(rate, "first_come", 0.0)
        for tau in TAUS:
            yield Case(rate, "shortest_predicted", tau)
        for tau in BOUNDED_TAUS:
            yield Case(rate, "shortest_predicted", tau, BOUND_S)


def rank(data: Path, jobs: int) -> list[Row]:
    """Plays each case with each seed, writes the table."""
    lengths = known_lengths(data / "lengths" / "alpaca_eval.jsonl.gz")
    rows = []
    with processes(jobs) as pool:
        for row in pool.map(_row, cases(), [lengths] * len(list(cases()))):
            rows.append(row)
            print(row, flush=True)
    write_json(FILE, rows)
    return rows


def known_lengths(file: Path) -> list[tuple[int, int]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    pairs = [(row["prompt_tokens"], row["out"][MODEL][0]) for row in known if row["out"].get(MODEL)]
    return [pair for pair in pairs if min(pair) >= LEAST_TOKENS and pair[0] <= MOST_PROMPT_TOKENS]


def _row(case: Case, lengths: Lengths) -> Row:
    facts = {"ranking": asdict(case), "requests": REQUESTS}
    measured = [remembered({**facts, "seed": seed}, partial(_measure, case, lengths, seed)) for seed in SEEDS]
    per_token = [run["s_per_token"] for run in measured]
    return {
        "rate": case.rate,
        "order": case.order,
        "tau": case.tau,
        "bound_s": case.bound_s if case.bound_s < NO_BOUND_S else None,
        "completed": [run["completed"] for run in measured],
        "kendall_tau": [run["kendall_tau"] for run in measured],
        "s_per_token": round(fmean(per_token), 4),
        "s_per_token_runs": per_token,
        "longest_wait_s": round(fmean(run["longest_wait_s"] for run in measured), 1),
        "makespan_s": round(fmean(run["makespan_s"] for run in measured), 1),
    }


def _measure(case: Case, lengths: Lengths, seed: int) -> Row:
    profile = replace(load_profile(PROFILE), kv_capacity_tokens=KV_CAPACITY_TOKENS)
    requests = poisson(lengths, case.rate, REQUESTS, seed)
    setup = Setup(
        [Pool("mixed", 1, Role.MIXED, profile, max_running=AT_ONCE)],
        EngineOptions(chunk_tokens=CHUNK, max_sequences=AT_ONCE, prefix_caching=False),
        policy="least_requests",
        order=case.order,
        starvation_s=case.bound_s if case.tau else None,
        predictor=_predictor(tuple(request.output_tokens for request in requests), case.tau, seed),
    )
    course = play(setup, requests, seed, warm_up_share=0.0)
    served = course.served
    truth = np.array([request.output_tokens for request in served])
    predicted = np.array([request.predicted_tokens for request in served])
    return {
        "completed": len(served),
        "kendall_tau": round(kendall_tau(truth, predicted), 3),
        "s_per_token": round(fmean(r.e2e_ps / PS_PER_S / r.output_tokens for r in served), 4),
        "longest_wait_s": round(max(r.ttft_ps for r in served) / PS_PER_S, 1),
        "makespan_s": round(course.result.end_ps / PS_PER_S, 1),
    }


def _predictor(truth: tuple[int, ...], tau: float, seed: int) -> Predictor:
    return NoisyPredictor(_deviation(truth, tau, seed), Random(seed)) if tau else NoPredictor()


@cache
def _deviation(truth: tuple[int, ...], tau: float, seed: int) -> float:
    """The same at every rate: the same requests come."""
    return calibrated_deviation(truth, tau, seed)
