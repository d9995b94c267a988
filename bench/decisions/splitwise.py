"""Splitwise (Patel et al., ISCA 2024): what does it earn to give prompts and answers machines of their own?

Llama2-70B on DGX-A100 and DGX-H100, request lengths of the Azure traces, Poisson arrivals. A cluster bears a rate if all
nine limits are kept that the paper sets: slowdowns of TTFT, TBT (per request: mean time per token after the first) and
E2E against the same request alone on an A100. Sought is the highest such rate per kind of cluster, over all ways to
spend one budget.

Budgets, costs, powers, limits and engine settings are those of the authors' simulator, Mutinifni/splitwise-sim@8f99e7dc9b40
(MIT): notebooks/utils.py, notebooks/plots.ipynb, configs/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from decisions.arrivals import poisson, trace_lengths
from decisions.cluster_run import Course, Served, Setup, play
from decisions.runs import processes, remembered
from decisions.search import STRIDE, Found, best_place, highest_rate
from decisions.splitwise_machines import (
    BUDGETS,
    SYSTEMS,
    Cluster,
    CostModel,
    System,
    pools_of,
    reference_cost,
)

from pointsman.cli.report_view import write_json
from pointsman.core.perf import IterationCost
from pointsman.sim.engine import EngineOptions

FILE = Path("bench/decisions/splitwise.json")
WORKLOADS = {"code": "azure2023_code", "conversation": "azure2023_conv"}
REQUESTS = 12_000
SEEDS = (1, 2, 3)
"""The first one is searched with; at the best cluster the rate is sought anew with each."""
WHOLE_PROMPTS = 16_384
"""Tokens of an iteration that no prompt of the traces exceeds."""
CHUNKS = (512, 1024, 2048)
"""Tried instead of whole prompts, where prompts share a machine with answers and where they do not."""
QUANTILES = (50, 90, 99)
LIMITS = {"ttft": (2.0, 3.0, 6.0), "tbt": (1.25, 1.5, 5.0), "e2e": (1.25, 1.5, 5.0)}
"""Most slowdown at each quantile."""
POLICIES = ("least_tokens", "round_robin", "least_requests")
"""Each kind of cluster has the best of them. The first sees prompts and contexts alike as tokens, so that where they share
machines the one with the least on it gets several prompts in a row."""
MAX_SEQUENCES = 512
FIRST_GUESS = 80.0
"""Requests per second."""
NEAR = 1.06
"""Stride of a search that begins where another seed's ended."""

Row = dict[str, Any]
Slowdowns = dict[str, list[float]]


@dataclass(frozen=True)
class Search:
    """A kind of cluster, a budget, a workload, and how iterations are timed."""

    workload: str
    system: System
    budget: str
    cost_model: CostModel
    chunks: tuple[int, ...] = ()
    """Sizes to cut prompts to, tried after computing them whole as the paper does."""


def searches() -> Iterator[Search]:
    for budget in BUDGETS:
        for cost_model in CostModel:
            chunks = CHUNKS if (budget, cost_model) == ("cost", CostModel.FITTED) else ()
            for workload in WORKLOADS:
                for system in SYSTEMS:
                    yield Search(workload, system, budget, cost_model, chunks)


def compare(data: Path, jobs: int) -> list[Row]:
    """Runs all searches, then writes what came out."""
    rows: list[Row] = []
    with processes(jobs) as pool:
        for found in pool.map(_rows, searches(), [data] * len(list(searches()))):
            rows.extend(found)
            print(*found, sep="\n", flush=True)
    write_json(FILE, rows)
    return rows


def _rows(search: Search, data: Path) -> list[Row]:
    facts = {"splitwise": asdict(search), "requests": REQUESTS, "seeds": SEEDS, "policies": POLICIES}
    rows: list[Row] = remembered(facts, lambda: {"rows": list(_find(search, data))})["rows"]
    return rows


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is tuned on a cluster."""

    policy: str = POLICIES[0]
    chunk: int = WHOLE_PROMPTS


def _find(search: Search, data: Path) -> Iterator[Row]:
    """The cluster within the budget that bears most; then, if there are chunks to try, with the best chunk size."""
    clusters = search.system.clusters(search.budget)
    stride = max(1, len(clusters) // 6)
    everywhere = range(len(clusters))

    def seek(places: Sequence[int], among: range, tuning: Tuning, floor: float) -> Found:
        def rate_of(place: int, best: float) -> float:
            return _rate(search, data, clusters[place], tuning, SEEDS[0], FIRST_GUESS, max(best, floor))

        return best_place(places, among, rate_of, (max(1, stride // 3), max(1, stride // 6), 1))

    best, found = Tuning(), Found(0, 0.0)

    def improve(chunks: Sequence[int], places: Sequence[int], among: range) -> Row:
        nonlocal best, found
        for chunk, policy in product(chunks, POLICIES):
            tuning = Tuning(policy, chunk)
            better = seek(places, among, tuning, found.rate)
            if better.rate > found.rate:
                best, found = tuning, better
        return _row(search, data, clusters[found.place], best, found.rate)

    yield improve([WHOLE_PROMPTS], everywhere[stride // 2 :: stride], everywhere)
    if search.chunks:
        here = range(found.place, found.place + 1)
        yield {**improve(search.chunks, here, here), "tuned": True}


def _row(search: Search, data: Path, cluster: Cluster, tuning: Tuning, rate: float) -> Row:
    rates = [rate]
    if rate:
        rates += [_rate(search, data, cluster, tuning, seed, rate, stride=NEAR) for seed in SEEDS[1:]]
    row: Row = {
        "workload": search.workload,
        "system": search.system.name,
        "budget": search.budget,
        "cost_model": search.cost_model.value,
        "tuned": False,
        "prompt_machines": cluster.prompt,
        "token_machines": cluster.token,
        "policy": tuning.policy,
        "chunk": tuning.chunk,
        "cost": round(cluster.cost, 2),
        "power": round(cluster.power, 1),
        "rate": round(fmean(rates), 2),
        "rates": [round(rate, 2) for rate in rates],
    }
    if rate:
        course = _course(search, data, cluster, tuning, SEEDS[0], rate)
        row["slowdowns"] = slowdowns(course, reference_cost(search.cost_model))
    return row


def _rate(
    search: Search,
    data: Path,
    cluster: Cluster,
    tuning: Tuning,
    seed: int,
    guess: float,
    floor: float = 0.0,
    stride: float = STRIDE,
) -> float:
    reference = reference_cost(search.cost_model)

    def meets(rate: float) -> bool:
        course = _course(search, data, cluster, tuning, seed, rate)
        return len(course.served) == course.offered and within_limits(slowdowns(course, reference))

    return highest_rate(meets, guess, floor, stride)


def _course(search: Search, data: Path, cluster: Cluster, tuning: Tuning, seed: int, rate: float) -> Course:
    lengths = trace_lengths(data / "traces" / f"{WORKLOADS[search.workload]}.csv.gz")
    setup = Setup(
        pools_of(search.system, cluster, search.cost_model),
        EngineOptions(chunk_tokens=tuning.chunk, max_sequences=MAX_SEQUENCES, prefix_caching=False),
        policy=tuning.policy,
    )
    return play(setup, poisson(lengths, rate, REQUESTS, seed), seed)


def slowdowns(course: Course, reference: IterationCost) -> Slowdowns:
    """Of TTFT, TBT and E2E: the quantiles over requests of measured time over that of the request alone on an A100."""
    ratios: dict[str, list[float]] = {name: [] for name in LIMITS}
    for served in course.served:
        ttft_ps, tbt_ps, e2e_ps = alone(served, reference)
        ratios["ttft"].append(served.ttft_ps / ttft_ps)
        ratios["e2e"].append(served.e2e_ps / e2e_ps)
        if served.output_tokens > 1:
            ratios["tbt"].append(served.tpot_ps / tbt_ps)
    return {
        name: [round(float(q), 3) for q in np.percentile(found, QUANTILES)] for name, found in ratios.items()
    }


def alone(served: Served, reference: IterationCost) -> tuple[int, float, int]:
    """TTFT, TBT and E2E in picoseconds of the request on an idle machine."""
    ttft_ps = reference.prefill_ps(served.prompt_tokens, WHOLE_PROMPTS)
    further = served.output_tokens - 1
    if not further:
        return ttft_ps, 0.0, ttft_ps
    answer_ps = reference.decode_run_ps(further, 1, served.prompt_tokens + 1)
    return ttft_ps, answer_ps / further, ttft_ps + answer_ps


def within_limits(found: Slowdowns) -> bool:
    return all(
        quantile < limit
        for name, limits in LIMITS.items()
        for quantile, limit in zip(found[name], limits, strict=True)
    )
