"""Baselines at their best: the engine's chunk size and their own knobs, tried on the training part of a trace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from decisions.parts import Window
from decisions.runs import Result, Runs, attainment
from decisions.settings import CHUNKS, SPLIT_POLICIES, Setting

from pointsman.cli.simulation import SimulationPlan

FIRST_SPLIT_POLICY = SPLIT_POLICIES[0]


@dataclass(frozen=True)
class Tuned:
    """A baseline as it did best."""

    policy: str
    """With its parameters where they are not the defaults."""
    chunk: int
    attainment: float
    """Share of requests within the SLO, on the training part at the training rate."""
    tried: int
    """Variants it was chosen from."""
    pools: str = ""
    """Where they are not the setting's own."""


def plan_of(
    setting: Setting, window: Window, policy: str, chunk: int, rate: float, seed: int
) -> SimulationPlan:
    return SimulationPlan(
        trace=str(window.path),
        pools=setting.pools,
        policy=policy,
        chunk=chunk,
        seed=seed,
        rate_scale=rate / window.rate,
        max_requests=setting.measured_requests,
    )


def tune(setting: Setting, window: Window, rate: float, runs: Runs) -> dict[str, Tuned]:
    """Each baseline with every chunk size, then its knobs with the best of these."""
    first = [
        plan_of(setting, window, policy, chunk, rate, 1) for policy in setting.baselines() for chunk in CHUNKS
    ]
    found = _best(first, runs.all(first))
    second = [
        replace(found[policy][0], policy=variant)
        for policy in setting.baselines()
        for variant in setting.knobs(policy)
    ]
    tried = [*(plan for plan, _, _ in found.values()), *second]
    results = [*(result for _, result, _ in found.values()), *runs.all(second)]
    return {
        policy: Tuned(plan.policy, plan.chunk, round(attainment(result), 4), len(CHUNKS) + variants - 1)
        for policy, (plan, result, variants) in _best(tried, results).items()
    }


def tune_split(setting: Setting, window: Window, rate: float, runs: Runs) -> Tuned:
    """The best division of eight instances, then other policies and chunk sizes on it. NIXL."""
    divided = [
        replace(
            plan_of(setting, window, FIRST_SPLIT_POLICY, CHUNKS[-1], rate, 1), pools=setting.split(prefills)
        )
        for prefills in range(1, 8)
    ]
    (best, result, count), *_ = _best(divided, runs.all(divided)).values()
    others = [
        replace(best, policy=policy, chunk=chunk)
        for policy in SPLIT_POLICIES
        for chunk in CHUNKS
        if (policy, chunk) != (best.policy, best.chunk)
    ]
    tried = [(best, result), *zip(others, runs.all(others), strict=True)]
    plan, result = min(tried, key=lambda one: _rank(one[1]))
    return Tuned(plan.policy, plan.chunk, round(attainment(result), 4), count + len(others), plan.pools)


def _best(
    plans: Sequence[SimulationPlan], results: Sequence[Result]
) -> dict[str, tuple[SimulationPlan, Result, int]]:
    """By the policy's name: the plan that did best, what it gave, and of how many."""
    best: dict[str, tuple[SimulationPlan, Result, int]] = {}
    for plan, result in zip(plans, results, strict=True):
        name = plan.policy.partition(":")[0]
        known = best.get(name)
        count = known[2] + 1 if known else 1
        if known is None or _rank(result) < _rank(known[1]):
            best[name] = (plan, result, count)
        else:
            best[name] = (known[0], known[1], count)
    return best


def _rank(result: Result) -> tuple[float, float]:
    """Most within the SLO first; among equals the shortest answers, end to end."""
    return (-round(attainment(result), 4), float(result["e2e_s"]["mean"] or 0.0))
