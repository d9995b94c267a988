"""Workloads by name instead of by file: `gen:azure-conv?rate=12&requests=20000&seed=1`, `merge:chat=A;batch=B`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pointsman.sim.workload import published
from pointsman.sim.workload.agents import AGENT_KINDS, AgentKind, AgentPrograms
from pointsman.sim.workload.clients import ClientsWorkload, Population
from pointsman.sim.workload.generate import Generated
from pointsman.sim.workload.merged import Merged, parse_parts
from pointsman.sim.workload.parameters import Parameters, WorkloadNameError
from pointsman.sim.workload.request import Workload
from pointsman.sim.workload.scale import RateScaled
from pointsman.sim.workload.servegen import read_servegen, servegen_models
from pointsman.sim.workload.shipped import SHIPPED, load_population
from pointsman.sim.workload.statistics import TraceStatistics
from pointsman.sim.workload.trace import TraceFile
from pointsman.sim.workload.workflows import StagedWorkflows

__all__ = ["GENERATORS", "Generator", "WorkloadNameError", "is_described", "open_workload"]

PREFIX = "gen:"
MERGE = "merge:"
DEFAULT_REQUESTS = 10_000
DEFAULT_PROGRAMS = 1000
DEFAULT_DEADLINE_S = 30.0
_COMMON = ("rate", "requests", "seed")
_OF_CLIENTS = (*_COMMON, "span", "start")
_OF_PROGRAMS = ("rate", "programs", "seed", "tool")


@dataclass(frozen=True, slots=True)
class Generator:
    """Makes a workload from its parameters; `make` raises WorkloadNameError, and TraceError where it reads files."""

    parameters: tuple[str, ...]
    make: Callable[[Parameters], Workload]


def is_described(name: str) -> bool:
    """Whether it is no file's name."""
    return name.startswith((PREFIX, MERGE))


def open_workload(name: str, longest_context_tokens: int = 0) -> Workload:
    """A trace file, or what a name beginning with `gen:` or `merge:` describes.

    Raises WorkloadNameError, and TraceError where a generator reads files.
    """
    if not is_described(name):
        return TraceFile(Path(name), longest_context_tokens)
    if name.startswith(MERGE):
        parts = parse_parts(name.removeprefix(MERGE))
        return Merged(
            tuple(
                (part, RateScaled(open_workload(part.source, longest_context_tokens), part.scale))
                for part in parts
            )
        )
    kind, _, query = name.removeprefix(PREFIX).partition("?")
    generator = GENERATORS.get(kind)
    if generator is None:
        raise WorkloadNameError(f"unknown generator {kind!r}; there are {', '.join(sorted(GENERATORS))}")
    return generator.make(Parameters(f"{PREFIX}{kind}", query, generator.parameters))


def _of_trace(statistics: TraceStatistics) -> Generator:
    def make(given: Parameters) -> Workload:
        drawn = replace(statistics, requests_per_s=given.positive("rate", statistics.requests_per_s))
        if statistics.gap_s is None:
            drawn = replace(drawn, gap_cv=given.positive("cv", statistics.gap_cv))
        return Generated(drawn, given.whole("requests", DEFAULT_REQUESTS, 1), given.whole("seed", 0, 0))

    return Generator(_COMMON if statistics.gap_s is not None else (*_COMMON, "cv"), make)


def _of_population(name: str) -> Generator:
    return Generator(_OF_CLIENTS, lambda given: _of_clients(load_population(name), given))


def _of_servegen(given: Parameters) -> Workload:
    folder, model = Path(given.text("folder")), given.text("model")
    models = servegen_models(folder)
    if model not in models:
        there = ", ".join(models) if models else "no servegen_*_rates.csv.gz with its lengths"
        raise WorkloadNameError(f"{PREFIX}servegen: no model {model!r} in {folder}; there are {there}")
    return _of_clients(read_servegen(folder, model), given)


def _of_clients(population: Population, given: Parameters) -> Workload:
    return ClientsWorkload(
        population,
        given.whole("requests", DEFAULT_REQUESTS, 1),
        requests_per_s=given.optional("rate"),
        span_s=given.optional("span"),
        start_s=given.at_least_0("start", 0.0),
        seed=given.whole("seed", 0, 0),
    )


def _of_agents(kind: AgentKind) -> Generator:
    def make(given: Parameters) -> Workload:
        return AgentPrograms(
            kind,
            given.whole("programs", DEFAULT_PROGRAMS, 1),
            given.positive("rate", kind.programs_per_s),
            tool_s=given.at_least_0("tool", 0.0),
            seed=given.whole("seed", 0, 0),
        )

    return Generator(_OF_PROGRAMS, make)


def _text_to_sql(given: Parameters) -> Workload:
    return StagedWorkflows(
        "workflow-text2sql",
        given.whole("programs", DEFAULT_PROGRAMS, 1),
        given.positive("rate", 1.0),
        deadline_s=given.positive("deadline", DEFAULT_DEADLINE_S),
        tool_s=given.at_least_0("tool", 0.0),
        seed=given.whole("seed", 0, 0),
    )


GENERATORS: Mapping[str, Generator] = {
    "azure-conv": _of_trace(published.AZURE_CONVERSATION_2023),
    "azure-code": _of_trace(published.AZURE_CODE_2023),
    "mooncake-conv": _of_trace(published.MOONCAKE_CONVERSATION),
    "mooncake-synthetic": _of_trace(published.MOONCAKE_SYNTHETIC),
    **{name: _of_population(name) for name in SHIPPED},
    "servegen": Generator(("folder", "model", *_OF_CLIENTS), _of_servegen),
    **{kind.name: _of_agents(kind) for kind in AGENT_KINDS},
    "workflow-text2sql": Generator((*_OF_PROGRAMS, "deadline"), _text_to_sql),
}
