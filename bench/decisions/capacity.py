"""Which rate counts as load 1: the highest at which the best tuned baseline keeps 90% of requests within the SLO.

Tuned on the training part of a trace: a rate is found at which one baseline attains 90%; at that rate every
baseline is tried with every chunk size and its own knobs; each keeps its best. On the measured part the rate is then sought for
the two best. What is found is frozen in capacity.json.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from decisions.parts import Window, windows
from decisions.runs import Runs, attainment
from decisions.settings import CHUNKS, SETTINGS, Setting
from decisions.tuning import Tuned, plan_of, tune, tune_split

from pointsman.cli.report_view import write_json
from pointsman.cli.simulation import SimulationPlan

FILE = Path("bench/decisions/capacity.json")
WANTED = 0.9
LOWEST_SHARE = 1000
"""Of the first guess, where the search gives up: some limits cannot be met at any rate."""
STRIDE = 1.25
"""By which the rate is raised or lowered until it is between two."""
STEPS = 4
"""Halvings of a stride: the rate is found within 1.4%."""


@dataclass(frozen=True)
class Capacity:
    """What was found."""

    trace: str
    pools: str
    requests_per_s: float
    policy: str
    chunk: int
    requests: int
    """Of a run on the measured part, warm-up included."""
    training_rate: float
    """Requests per second at which the baselines were tuned."""
    tuned: dict[str, Tuned]
    """By baseline."""
    split: Tuned | None
    """The best static division into prefill and decode instances. None: not looked for."""


def find_capacities(data: Path, runs: Runs, tell: Callable[[str], None], only: str = "") -> None:
    """Of settings whose trace begins so; what is known of others stays."""
    for setting in SETTINGS:
        if setting.trace.startswith(only):
            found = find_capacity(setting, data, runs, tell)
            known = {(one.trace, one.pools): one for one in [*known_capacities(), found]}
            in_order = [
                known[one.file_name, one.pools] for one in SETTINGS if (one.file_name, one.pools) in known
            ]
            write_json(FILE, [asdict(capacity) for capacity in in_order])


def find_capacity(setting: Setting, data: Path, runs: Runs, tell: Callable[[str], None]) -> Capacity:
    training = windows(setting, data, "training", (1,))[1]
    measured = windows(setting, data, "measured", (1,))[1]
    name = f"{setting.trace} on {setting.pools}"
    first = plan_of(setting, training, "least_tokens", CHUNKS[-1], setting.first_guess, 1)
    training_rate = highest_rate(first, training, setting.first_guess, runs)
    tell(f"{name}: tuned at {training_rate:.2f} requests/s")
    tuned = tune(setting, training, training_rate, runs)
    for policy, one in tuned.items():
        tell(f"{name}: {policy}: {one.attainment:.1%} as {one.policy}, chunks of {one.chunk}")
    split = tune_split(setting, training, training_rate, runs)
    tell(f"{name}: {split.pools}: {split.attainment:.1%} with {split.policy}, chunks of {split.chunk}")
    rates: dict[str, float] = {}
    for policy in sorted(tuned, key=lambda name: -tuned[name].attainment)[:2]:
        plan = plan_of(setting, measured, tuned[policy].policy, tuned[policy].chunk, training_rate, 1)
        rates[policy] = highest_rate(plan, measured, training_rate, runs)
        tell(f"{name}: {policy} keeps {WANTED:.0%} up to {rates[policy]:.2f} requests/s")
    policy = max(rates, key=rates.__getitem__)
    return Capacity(
        setting.file_name,
        setting.pools,
        round(rates[policy], 3),
        tuned[policy].policy,
        tuned[policy].chunk,
        setting.measured_requests,
        round(training_rate, 3),
        tuned,
        split,
    )


def highest_rate(plan: SimulationPlan, window: Window, guess: float, runs: Runs) -> float:
    """Requests per second up to which the plan attains what is wanted, by halving in logarithms."""

    def holds(rate: float) -> bool:
        return attainment(runs.one(replace(plan, rate_scale=rate / window.rate))) >= WANTED

    low = high = guess
    if holds(guess):
        while holds(high := STRIDE * high):
            low = high
    else:
        while not holds(low := low / STRIDE):
            high = low
            if low < guess / LOWEST_SHARE:
                raise ValueError(f"{plan.trace} on {plan.pools}: no rate keeps {WANTED:.0%} within the SLO")
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def known_capacities() -> list[Capacity]:
    return [] if not FILE.exists() else [_capacity(entry) for entry in json.loads(FILE.read_text())]


def _capacity(entry: dict[str, Any]) -> Capacity:
    tuned = {policy: Tuned(**one) for policy, one in entry["tuned"].items()}
    split = Tuned(**entry["split"]) if entry["split"] else None
    return Capacity(**{**entry, "tuned": tuned, "split": split})
