"""Agent programs: which call goes first, and is that decided in the router or on the engines?

Autellix (Luo et al. 2025): chats, tool chains and tree searches with its call statistics on four replicas. Early binding places
every call at arrival and lets engines queue, first come first served; late binding lets calls wait in the router while every
engine runs as many as it may. HexGen-Flow (Peng et al. 2025): a staged workflow with a deadline on fast and slow engines,
each call due by its stage's share of what is left.

Runs go seed by seed, and the table is written after each, so that one that is broken off still compares the same things.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decisions.runs import Result, runs

from pointsman.cli.report_view import write_json
from pointsman.cli.simulation import SimulationPlan

FILE = Path("bench/decisions/agents.json")
POLICY = "least_tokens"
SEEDS = tuple(range(1, 6))

Row = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """Where and in which order calls wait. Without `max_running` engines queue on their own."""

    name: str
    order: str = "first_come"
    max_running: int = 0


@dataclass(frozen=True)
class Case:
    """A kind of programs on a cluster, at some rates of programs per second."""

    generator: str
    pools: str
    rates: tuple[float, ...]
    programs: int
    contestants: tuple[Contestant, ...]
    parameters: str = ""

    def plan(self, rate: float, contestant: Contestant, seed: int) -> SimulationPlan:
        return SimulationPlan(
            trace=f"gen:{self.generator}?rate={rate:g}&programs={self.programs}&seed={seed}{self.parameters}",
            pools=self.pools,
            policy=POLICY,
            order=contestant.order,
            max_running=contestant.max_running,
            seed=seed,
        )


EARLY = Contestant("early, first come")
REPLICAS = "4xmixed:a100-llama3.1-8b"
MIXED_SPEEDS = "2xmixed:h100-llama3.1-8b,2xmixed:l40s-llama3.1-8b"
AT_ONCE = (32, 128)
"""Calls that an engine runs while others wait in the router; without a limit it runs up to 256."""


def _contestants(*orders: tuple[str, str]) -> tuple[Contestant, ...]:
    """Early binding, and each order with every limit."""
    late = [
        Contestant(f"late {at_once}, {name}", order, at_once) for at_once in AT_ONCE for name, order in orders
    ]
    return (EARLY, *late)


ATTAINED = _contestants(("first come", "first_come"), ("least attained", "least_attained"))
DUE = _contestants(
    ("first come", "first_come"), ("least attained", "least_attained"), ("least slack", "least_slack")
)
CASES = (
    Case("agents-sharegpt", REPLICAS, (4, 6, 8), 1000, ATTAINED),
    Case("agents-bfcl", REPLICAS, (2, 3, 4), 800, ATTAINED),
    Case("agents-lats", REPLICAS, (0.4, 0.8, 1.6), 50, ATTAINED),
    Case("workflow-text2sql", MIXED_SPEEDS, (2, 3, 4), 300, DUE, "&deadline=45"),
)


def compare(data: Path, jobs: int) -> list[Row]:  # noqa: ARG001 - these workloads need no data
    """All cases, seed by seed."""
    found: dict[tuple[str, float, str], list[Result]] = {}
    cases = [(case, rate, one) for case in CASES for rate in case.rates for one in case.contestants]
    with runs(jobs) as pool:
        for seed in SEEDS:
            results = pool.all([case.plan(rate, one, seed) for case, rate, one in cases])
            for (case, rate, one), result in zip(cases, results, strict=True):
                found.setdefault((case.generator, rate, one.name), []).append(result)
            print(f"seed {seed} of {len(SEEDS)}", flush=True)
    rows = [_row(*key, of_seeds) for key, of_seeds in found.items()]
    write_json(FILE, rows)
    return rows


def _row(generator: str, rate: float, contestant: str, results: list[Result]) -> Row:
    programs = [result["programs"] for result in results]

    def mean(figure: Callable[[Result], float]) -> float:
        return sum(map(figure, programs)) / len(programs)

    row: Row = {
        "programs": generator,
        "rate": rate,
        "contestant": contestant,
        "seeds": len(results),
        "completed": sum(one["completed"] for one in programs),
        "failed": sum(one["failed"] for one in programs),
        "response_mean_s": round(mean(lambda one: one["response_s"]["mean"]), 2),
        "response_p90_s": round(mean(lambda one: one["response_s"]["p90"]), 2),
        "response_p99_s": round(mean(lambda one: one["response_s"]["p99"]), 2),
        "per_token_mean_s": round(mean(lambda one: one["per_token_s"]["mean"]), 4),
        "per_token_p90_s": round(mean(lambda one: one["per_token_s"]["p90"]), 4),
        "per_token_mean_s_runs": [round(one["per_token_s"]["mean"], 4) for one in programs],
    }
    by_seed = [one["response_s"]["mean"] for one in programs]
    row["response_mean_lowest_s"], row["response_mean_highest_s"] = (
        round(min(by_seed), 2),
        round(max(by_seed), 2),
    )
    if programs[0]["deadline_attainment"] is not None:
        row["deadline_attainment"] = round(mean(lambda one: one["deadline_attainment"]), 4)
    return row
