"""All baselines beside each other, each as it was tuned, at shares of the capacity, over several windows of the trace."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from decisions.capacity import Capacity, known_capacities
from decisions.parts import windows
from decisions.runs import Result, Runs, attainment
from decisions.settings import CONNECTORS, SETTINGS, Setting
from decisions.tuning import Tuned, plan_of

from pointsman.cli.report_view import write_json
from pointsman.cli.simulation import SimulationPlan

LOADS = (0.7, 0.9, 1.05)
STALE_S = 0.1
"""After which a router sees what the other did; with a delay there are two routers."""
SEEDS = 5
CONNECTOR_LOAD = 0.9
"""At which the split is tried with every connector."""
FILE = Path("bench/decisions/peers.json")

Row = dict[str, Any]
"""Of one policy at one load: what it is, and a list of each figure, one a seed."""
Case = tuple[str, float, float]
"""Policy, load, age of the view."""


def compare_peers(data: Path, runs: Runs, seeds: int = SEEDS, only: str = "") -> Iterator[str]:
    """Seed by seed over all settings; says how far it is. What is known of others stays."""
    capacities = {(capacity.trace, capacity.pools): capacity for capacity in known_capacities()}
    known = [
        setting
        for setting in SETTINGS
        if (setting.file_name, setting.pools) in capacities and setting.trace.startswith(only)
    ]
    found: dict[Setting, dict[Case, list[Result]]] = {setting: {} for setting in known}
    for seed in range(1, seeds + 1):
        for setting in known:
            capacity = capacities[setting.file_name, setting.pools]
            cases = cases_of(setting, capacity, data, seed)
            for case, result in zip(cases, runs.all(list(cases.values())), strict=True):
                found[setting].setdefault(case, []).append(result)
            yield f"seed {seed}: {setting.trace} on {setting.pools}: {len(cases)} runs"
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in known_rows():
        rows.setdefault((row["trace"], row["pools"]), []).append(row)
    for setting, cases_found in found.items():
        rows[setting.file_name, setting.pools] = [
            row_of(setting, case, results) for case, results in cases_found.items()
        ]
    write_json(
        FILE, [row for setting in SETTINGS for row in rows.get((setting.file_name, setting.pools), ())]
    )


def known_rows() -> list[Row]:
    return list(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else []


def cases_of(setting: Setting, capacity: Capacity, data: Path, seed: int) -> dict[Case, SimulationPlan]:
    window = windows(setting, data, "measured", (seed,))[seed]
    cases: dict[Case, SimulationPlan] = {}
    compared = dict(capacity.tuned)
    if capacity.split is not None:
        compared[split_name(capacity.split)] = capacity.split
    for load in LOADS:
        rate = load * capacity.requests_per_s
        for policy, tuned in compared.items():
            plan = plan_of(setting, window, tuned.policy, tuned.chunk, rate, seed)
            plan = replace(plan, pools=tuned.pools or setting.pools)
            cases[policy, load, 0.0] = plan
            cases[policy, load, STALE_S] = replace(plan, view_delay=STALE_S)
            if tuned.pools and load == CONNECTOR_LOAD:
                for connector in CONNECTORS[1:]:
                    cases[f"{policy}, {connector}", load, 0.0] = replace(plan, connector=connector)
    return cases


def split_name(split: Tuned) -> str:
    prefills, decodes = (pool.partition("x")[0] for pool in split.pools.split(","))
    return f"{prefills} prefill + {decodes} decode"


def row_of(setting: Setting, case: Case, results: Sequence[Result]) -> Row:
    policy, load, delay = case
    return {
        "trace": setting.file_name,
        "pools": setting.pools,
        "policy": policy,
        "as": results[0]["policy"],
        "load": load,
        "view_delay_s": delay,
        "requests": [result["requests"] for result in results],
        "completed": [result["completed"] for result in results],
        "attainment": [round(attainment(result), 4) for result in results],
        "goodput": [round(result["goodput"], 3) for result in results],
        "ttft_mean_s": [round(result["ttft_s"]["mean"], 4) for result in results],
        "ttft_p90_s": [round(result["ttft_s"]["p90"], 4) for result in results],
        "tpot_p90_s": [round(result["tpot_s"]["p90"], 5) for result in results],
        "e2e_mean_s": [round(result["e2e_s"]["mean"], 4) for result in results],
        "e2e_p90_s": [round(result["e2e_s"]["p90"], 4) for result in results],
        "prefix_hit_rate": [round(result["prefix_hit_rate"] or 0.0, 4) for result in results],
        "preemptions": [result["preemptions"] for result in results],
    }
