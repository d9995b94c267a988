"""Which rate counts as load 1: the highest at which the best tuned baseline keeps 90% of requests within the SLO.

Tuned on the training part of a trace: a rate is found at which one baseline attains 90%; at that rate every
baseline is tried with every chunk size; each keeps its best. On the measured part the rate is then sought for the two
best. What is found is frozen in capacity.json.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from decisions.parts import Part, parts
from decisions.runs import Runs, attainment

from pointsman.cli.simulation import SimulationPlan

FILE = Path("bench/decisions/capacity.json")
WANTED = 0.9
CHUNKS = (512, 1024, 2048)
BASELINES = (
    "round_robin", "random", "power_of_two", "least_requests", "least_tokens", "prefix_affinity", "kv_cost",
    "weighted_scorers", "freeness",
)  # fmt: skip
"""`session` is left out: no public trace names sessions."""
NEEDS_PREFIXES = {"prefix_affinity"}
LOWEST_SHARE = 1000
"""Of the first guess, where the search gives up: some limits cannot be met at any rate."""
STEPS = 5
"""Halvings of a factor of two: the rate is found within 2%."""


@dataclass(frozen=True)
class Setting:
    """A trace on a cluster, and how many requests a run of it has."""

    trace: str
    pools: str
    first_guess: float
    """Requests per second to begin the search at."""
    training_requests: int = 4000
    measured_requests: int = 10_000
    chunks: tuple[int, ...] = CHUNKS

    @property
    def name(self) -> str:
        return f"{self.trace} on {self.pools}"

    @property
    def baselines(self) -> list[str]:
        prefixes = self.trace.startswith("mooncake")
        return [name for name in BASELINES if prefixes or name not in NEEDS_PREFIXES]


SETTINGS = (
    Setting("azure2023_code", "8xmixed:h100-llama3.1-8b", 90),
    Setting("azure2023_conv", "8xmixed:h100-llama3.1-8b", 200),
    Setting("azure2023_conv", "8xmixed:a100-opt-13b", 10),
    Setting("mooncake_conversation", "8xmixed:h100-llama3.1-8b", 5, 1500, 5000, (1024, 2048)),
    Setting("mooncake_synthetic", "8xmixed:h100-llama3.1-8b", 8, 1000, 1700, (1024, 2048)),
)


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
    tuned: dict[str, dict[str, float]]
    """By baseline: its best chunk size, and the share of requests within the SLO at the training rate."""


def find_capacities(data: Path, runs: Runs, tell: Callable[[str], None]) -> list[Capacity]:
    found = []
    for setting in SETTINGS:
        found.append(find_capacity(setting, data, runs, tell))
        FILE.write_text(json.dumps([asdict(capacity) for capacity in found], indent=1) + "\n")
    return found


def find_capacity(setting: Setting, data: Path, runs: Runs, tell: Callable[[str], None]) -> Capacity:
    training, measured = parts(data / f"{setting.trace}.csv.gz")
    first = plan_of(setting, training, "least_tokens", setting.chunks[-1], setting.first_guess)
    training_rate = highest_rate(first, training, setting.first_guess, runs)
    tell(f"{setting.name}: tuned at {training_rate:.2f} requests/s")
    tried = [
        plan_of(setting, training, policy, chunk, training_rate)
        for policy in setting.baselines
        for chunk in setting.chunks
    ]
    best: dict[str, dict[str, float]] = {}
    for plan, result in zip(tried, runs.all(tried), strict=True):
        share = attainment(result)
        if plan.policy not in best or share > best[plan.policy]["attainment"]:
            best[plan.policy] = {"chunk": plan.chunk, "attainment": round(share, 4)}
    rates: dict[str, float] = {}
    for policy in sorted(best, key=lambda name: -best[name]["attainment"])[:2]:
        chunk = int(best[policy]["chunk"])
        plan = plan_of(setting, measured, policy, chunk, training_rate)
        rates[policy] = highest_rate(plan, measured, training_rate, runs)
        tell(
            f"{setting.name}: {policy} with chunks of {chunk} keeps {WANTED:.0%} up to {rates[policy]:.2f} requests/s"
        )
    policy = max(rates, key=rates.__getitem__)
    return Capacity(
        f"{setting.trace}.csv.gz",
        setting.pools,
        round(rates[policy], 3),
        policy,
        int(best[policy]["chunk"]),
        min(setting.measured_requests, 1 << 30),
        round(training_rate, 3),
        best,
    )


def plan_of(
    setting: Setting, part: Part, policy: str, chunk: int, rate: float, seed: int = 1
) -> SimulationPlan:
    training = "training" in part.path.name
    return SimulationPlan(
        trace=str(part.path),
        pools=setting.pools,
        policy=policy,
        chunk=chunk,
        seed=seed,
        rate_scale=rate / part.rate,
        max_requests=setting.training_requests if training else setting.measured_requests,
    )


def highest_rate(plan: SimulationPlan, part: Part, guess: float, runs: Runs) -> float:
    """Requests per second up to which the plan attains what is wanted, by halving in logarithms."""

    def holds(rate: float) -> bool:
        return attainment(runs.one(replace(plan, rate_scale=rate / part.rate))) >= WANTED

    low = high = guess
    if holds(guess):
        while holds(high := 2 * high):
            low = high
    else:
        while not holds(low := low / 2):
            high = low
            if low < guess / LOWEST_SHARE:
                raise ValueError(f"{plan.trace} on {plan.pools}: no rate keeps {WANTED:.0%} within the SLO")
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def known_capacities() -> list[Capacity]:
    return [Capacity(**entry) for entry in json.loads(FILE.read_text())]
