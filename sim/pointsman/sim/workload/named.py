"""Workloads by name instead of by file: `gen:azure-conv?rate=12&requests=20000&seed=1`."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pointsman.sim.workload.generate import AZURE_CONVERSATION_2023, Generated, TraceStatistics
from pointsman.sim.workload.request import Workload
from pointsman.sim.workload.trace import TraceFile

PREFIX = "gen:"
GENERATORS: Mapping[str, TraceStatistics] = {"azure-conv": AZURE_CONVERSATION_2023}
DEFAULT_REQUESTS = 10_000
MOST_REQUESTS = 100_000_000
PARAMETERS = ("rate", "requests", "seed", "cv")


class WorkloadNameError(ValueError):
    """A workload's name that says nothing; the message lists what there is."""


def open_workload(name: str, longest_context_tokens: int = 0) -> Workload:
    """A trace file, or what a name beginning with `gen:` describes. Raises WorkloadNameError."""
    if not name.startswith(PREFIX):
        return TraceFile(Path(name), longest_context_tokens)
    kind, _, query = name.removeprefix(PREFIX).partition("?")
    if kind not in GENERATORS:
        raise WorkloadNameError(f"unknown generator {kind!r}; there are {', '.join(sorted(GENERATORS))}")
    given = _parameters(query)
    statistics = GENERATORS[kind]
    return Generated(
        replace(
            statistics,
            requests_per_s=given.get("rate", statistics.requests_per_s),
            gap_cv=given.get("cv", statistics.gap_cv),
        ),
        _whole("requests", given.get("requests", DEFAULT_REQUESTS), 1),
        _whole("seed", given.get("seed", 0), 0),
    )


def _parameters(query: str) -> dict[str, float]:
    given: dict[str, float] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in PARAMETERS:
            raise WorkloadNameError(f"{name!r} is no parameter; there are {', '.join(PARAMETERS)}")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < 0 or (number == 0 and name != "seed"):
            raise WorkloadNameError(f"{name}={value}: not a number above 0")
        given[name] = number
    return given


def _whole(name: str, number: float, least: int) -> int:
    if number != int(number) or not least <= number <= MOST_REQUESTS:
        raise WorkloadNameError(f"{name}={number:g}: not a whole number from {least} to {MOST_REQUESTS}")
    return int(number)
