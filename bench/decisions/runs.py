"""Simulations of the experiments: on some processes, and each remembered, so that an interrupted bench goes on."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pointsman.cli.simulation import SimulationPlan, run_plan

Result = dict[str, Any]
"""A report as `--json` writes it."""
REMEMBERED = Path("build/decisions/runs")


class Runs:
    """Runs plans, or recalls what they gave. Delete `build/decisions` after a change to simulator or core."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        REMEMBERED.mkdir(parents=True, exist_ok=True)

    def all(self, plans: Sequence[SimulationPlan]) -> list[Result]:
        """In the order of the plans."""
        return list(self._pool.map(run, plans))

    def one(self, plan: SimulationPlan) -> Result:
        (result,) = self.all([plan])
        return result


@contextmanager
def runs(jobs: int) -> Iterator[Runs]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield Runs(pool)


def run(plan: SimulationPlan) -> Result:
    facts = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    key = hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:24]
    file = REMEMBERED / f"{key}.json"
    if file.exists():
        recalled: Result = json.loads(file.read_text())
        return recalled
    result: Result = json.loads(json.dumps(run_plan(plan).report.as_json(), default=str))
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.replace(file)
    return result


def attainment(result: Result) -> float:
    return float(result["slo"]["attainment"] or 0.0)
