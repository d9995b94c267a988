"""How much load a cluster sustains, by the simulator: the same decisions on the same engine loop, in virtual time."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pointsman.cli.cluster import ClusterOptions
from pointsman.cli.simulation import SimulationPlan, run_plan
from pointsman.core.instances import Role

ATTAINMENT = 0.9
"""Capacity is the rate at which so many requests still meet their SLO."""
PRECISION = 0.02
LEAST_REQUESTS = 3000
"""Fewer end before queues have had the time to grow, and nothing seems too much."""
MOST_RATE_SCALE = 64.0


@dataclass(frozen=True, slots=True)
class Capacity:
    rate_scale: float
    """Times the trace's rate."""
    attainment: float
    """There."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find_capacity(trace: Path, requests: int, options: ClusterOptions, policy: str) -> Capacity:
    """The highest rate, to 2%, at which attainment is not below 90%. Raises ValueError where none is found."""
    plan = SimulationPlan(str(trace), pools_of(options), policy, max_requests=requests)

    def attainment(rate_scale: float) -> float:
        report = run_plan(replace(plan, rate_scale=rate_scale)).report.as_json()
        return float(report["slo"]["attainment"])

    low, best, high = 0.0, 1.0, 1.0 / 16
    while high <= MOST_RATE_SCALE and (share := attainment(high)) >= ATTAINMENT:
        low, best, high = high, share, 2 * high
    if not low or high > MOST_RATE_SCALE:
        raise ValueError(
            f"attainment does not fall below {ATTAINMENT:.0%} between 1/16 and 64 times the rate"
        )
    while high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        share = attainment(middle)
        if share >= ATTAINMENT:
            low, best = middle, share
        else:
            high = middle
    return Capacity(low, best)


def pools_of(options: ClusterOptions) -> str:
    """As `pointsman simulate` takes them."""
    counts = {role: options.roles.count(role) for role in Role}
    return ",".join(f"{count}x{role}:{options.profile}" for role, count in counts.items() if count)
