"""All baselines beside each other, each with the chunk size it was tuned to, at shares of the capacity."""

import json
from dataclasses import replace
from pathlib import Path

from decisions.capacity import Capacity, Setting, known_capacities, plan_of
from decisions.parts import parts
from decisions.runs import Result, Runs, attainment

from pointsman.cli.simulation import SimulationPlan

LOADS = (0.7, 0.9, 1.05)
STALE_S = 0.1
"""After which a router sees what the other did; with a delay there are two routers."""
APART_LOAD = 0.9
"""At which stale views and split pools are tried."""
SEEDS = (1,)
SPLITS = (3, 4, 5, 6, 7)
"""Prefill instances of eight, the others decode."""
SPLIT_POLICY = "least_tokens"
FILE = Path("bench/decisions/peers.json")

Row = dict[str, float | str | int]


def compare_peers(data: Path, runs: Runs, settings: tuple[Setting, ...], seeds: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    by_name = {(setting.trace, setting.pools): setting for setting in settings}
    for capacity in known_capacities():
        setting = by_name.get((capacity.trace.removesuffix(".csv.gz"), capacity.pools))
        if setting is not None:
            rows += _compare(setting, capacity, data, runs, seeds)
            FILE.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def _compare(
    setting: Setting, capacity: Capacity, data: Path, runs: Runs, seeds: tuple[int, ...]
) -> list[Row]:
    _, measured = parts(data / f"{setting.trace}.csv.gz")
    cases: list[tuple[str, float, float, SimulationPlan]] = []
    for load in LOADS:
        rate = load * capacity.requests_per_s
        for seed in seeds:
            for policy, tuned in capacity.tuned.items():
                plan = plan_of(setting, measured, policy, int(tuned["chunk"]), rate, seed)
                cases.append((policy, load, 0.0, plan))
                if load == APART_LOAD:
                    cases.append((policy, load, STALE_S, replace(plan, view_delay=STALE_S)))
            if load == APART_LOAD and not setting.trace.startswith("mooncake"):
                profile = setting.pools.partition(":")[2]
                for prefills in SPLITS:
                    pools = f"{prefills}xprefill:{profile},{8 - prefills}xdecode:{profile}"
                    plan = plan_of(setting, measured, SPLIT_POLICY, setting.chunks[-1], rate, seed)
                    name = f"{SPLIT_POLICY}, {prefills} prefill + {8 - prefills} decode"
                    cases.append((name, load, 0.0, replace(plan, pools=pools)))
    results = runs.all([plan for *_, plan in cases])
    found: dict[tuple[str, float, float], list[Result]] = {}
    for (name, load, delay, _), result in zip(cases, results, strict=True):
        found.setdefault((name, load, delay), []).append(result)
    return [_row(capacity, *key, of_seeds) for key, of_seeds in found.items()]


def _row(capacity: Capacity, name: str, load: float, delay: float, results: list[Result]) -> Row:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return {
        "trace": capacity.trace,
        "pools": capacity.pools,
        "policy": name,
        "load": load,
        "view_delay_s": delay,
        "seeds": len(results),
        "requests": sum(result["requests"] for result in results),
        "completed": sum(result["completed"] for result in results),
        "attainment": round(mean([attainment(result) for result in results]), 4),
        "goodput": round(mean([result["goodput"] for result in results]), 3),
        "ttft_p90_s": round(mean([result["ttft_s"]["p90"] for result in results]), 4),
        "tpot_p90_s": round(mean([result["tpot_s"]["p90"] for result in results]), 5),
        "e2e_mean_s": round(mean([result["e2e_s"]["mean"] for result in results]), 4),
        "prefix_hit_rate": round(mean([result["prefix_hit_rate"] or 0.0 for result in results]), 4),
    }
