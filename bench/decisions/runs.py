"""Simulations of the experiments: on some processes, and each remembered, so that an interrupted bench goes on."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pointsman.core
import pointsman.sim
from pointsman.cli.simulation import SimulationPlan, run_plan

Result = dict[str, Any]
"""A report as `--json` writes it."""
REMEMBERED = Path("build/decisions/runs")


class Runs:
    """Runs plans, or recalls what they gave."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def all(self, plans: Sequence[SimulationPlan]) -> list[Result]:
        """In the order of the plans."""
        return list(self._pool.map(run, plans))

    def one(self, plan: SimulationPlan) -> Result:
        (result,) = self.all([plan])
        return result


@contextmanager
def runs(jobs: int) -> Iterator[Runs]:
    with processes(jobs) as pool:
        yield Runs(pool)


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that start afresh. Ctrl-C drops what has not begun."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run(plan: SimulationPlan) -> Result:
    facts = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    return remembered(facts, lambda: json.loads(json.dumps(run_plan(plan).report.as_json(), default=str)))


def remembered(facts: Mapping[str, object], compute: Callable[[], Result]) -> Result:
    """What `compute` gave when this version of the simulator was last asked for it with these facts, or gives now."""
    facts = {**facts, "code": code()}
    key = hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:24]
    file = REMEMBERED / f"{key}.json"
    if file.exists():
        recalled: Result = json.loads(file.read_text())
        return recalled
    result = compute()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(result))
    partial.replace(file)
    return result


@cache
def code() -> str:
    """Of decisions and simulator, by their source: what another version gave is not recalled."""
    digest = hashlib.sha256()
    for package in (pointsman.core, pointsman.sim):
        for folder in package.__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def attainment(result: Result) -> float:
    return float(result["slo"]["attainment"] or 0.0)
