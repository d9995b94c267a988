"""What is measured. Each scenario runs its sides in turn and derives the figures that the report shows."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dataplane.dynamo import INSTANT, dynamo, steady_pace
from dataplane.load import Engines, Load
from dataplane.measure import Bench, Run, used_runs
from dataplane.ours import POINTSMAN_SIDE, PURE_SIDE, ours
from dataplane.sides import DIRECT, SGLANG, VLLM, Side

INSTANCES = 4


@dataclass
class Outcome:
    """All runs of a scenario, and its figures: name in the JSON file -> number."""

    name: str
    title: str
    value: Callable[[Run], float]  # of a run, what the table shows
    unit: str
    runs: dict[str, list[Run]]
    rounds: int
    figures: dict[str, float] = field(default_factory=dict)

    def values(self, side: str, value: Callable[[Run], float] | None = None) -> list[float]:
        return [(value or self.value)(run) for run in used_runs(self.runs[side], self.rounds)]

    def median(self, side: str, value: Callable[[Run], float] | None = None) -> float:
        return statistics.median(self.values(side, value))

    def has(self, *sides: str) -> bool:
        return all(self.runs.get(side) for side in sides)


@dataclass(frozen=True)
class Plan:
    """Which sides there are, and how long each run takes."""

    sides: frozenset[str]
    seconds: float

    def keep(self, candidates: Sequence[Side]) -> list[Side]:
        return [side for side in candidates if side.name in self.sides]


def requests_per_cpu_s(run: Run) -> float:
    return run.per_cpu_s("requests")


def events_per_cpu_s(run: Run) -> float:
    return run.per_cpu_s("events")


def _versus(outcome: Outcome, what: str) -> None:
    mine = POINTSMAN_SIDE.name
    for side in outcome.runs:
        if side not in {mine, DIRECT.name} and outcome.has(mine, side):
            outcome.figures[f"{what}_vs_{side}"] = outcome.median(mine) / outcome.median(side)


def _headroom(outcome: Outcome, what: str) -> None:
    """What engine and client together do with their core when they talk to each other, against what the fastest router
    does with its own.
    """

    def per_load_cpu_s(run: Run) -> float:
        return float(run.report[what]) / run.load_cpu_s

    routers = [side for side in outcome.runs if side != DIRECT.name and outcome.has(side)]
    if outcome.has(DIRECT.name) and routers:
        fastest = max(outcome.median(side) for side in routers)
        outcome.figures[f"{outcome.name}_load_headroom"] = (
            outcome.median(DIRECT.name, per_load_cpu_s) / fastest
        )


def saturated(bench: Bench, plan: Plan) -> Outcome:
    """Requests that are not streamed, as many as the router can take."""
    load = Load(connections=64, seconds=plan.seconds, warmup=2)
    sides = plan.keep([DIRECT, POINTSMAN_SIDE, PURE_SIDE, VLLM, SGLANG, dynamo("kv", INSTANT)])
    with Engines(INSTANCES, core=bench.cores.load) as engines:
        runs = bench.interleave({side.name: _attempt(bench, side, load, engines) for side in sides})
    outcome = Outcome(
        "saturated", "1 KB requests, not streamed", requests_per_cpu_s, "requests/CPU s", runs, bench.rounds
    )
    _versus(outcome, "requests_per_cpu_s")
    _headroom(outcome, "requests")
    return outcome


def _attempt(bench: Bench, side: Side, load: Load, engines: Engines) -> Callable[[], Run]:
    return lambda: bench.run_once(side, load, None if side.own_engines else engines)


def streaming(bench: Bench, plan: Plan, streams: int, name: str) -> Outcome:
    """Streams with 20 ms between tokens, each followed by another as it ends."""

    def load(count: int, *, exact: bool = True) -> Load:
        return Load(count, plan.seconds, warmup=6, ramp=5, stream_tokens=250, exact=exact)

    sides = plan.keep([POINTSMAN_SIDE, PURE_SIDE, VLLM, SGLANG, dynamo("kv", steady_pace())])
    with Engines(INSTANCES, core=bench.cores.load) as engines:
        attempts = {
            side.name: _attempt(bench, side, load(streams, exact=side.exact_streams), engines)
            for side in sides
        }
        if DIRECT.name in plan.sides:
            attempts[DIRECT.name] = _attempt(bench, DIRECT, load(4 * streams), engines)
        runs = bench.interleave(attempts)
    outcome = Outcome(
        name, f"{streams} streams, 20 ms between tokens", events_per_cpu_s, "chunks/CPU s", runs, bench.rounds
    )
    _versus(outcome, "chunks_per_cpu_s" if name == "streaming" else f"{name}_chunks_per_cpu_s")
    _headroom(outcome, "events")
    for side in runs:
        if outcome.has(side):
            outcome.figures[f"{name}_events_per_s_{side}"] = outcome.median(
                side, lambda run: run.report["events"] / run.wall_s
            )
            if side != "dynamo":  # its texts are its own, without a clock in them
                outcome.figures[f"{name}_delay_p99_us_{side}"] = outcome.median(side, _delay_p99)
    return outcome


def _delay_p99(run: Run) -> float:
    return float(run.report["delay_us"].get("p99", 0))


def first_byte(bench: Bench, plan: Plan) -> Outcome:
    """Time to first byte with 100 streams open, new ones beginning all the time; what a router adds to it."""
    load = Load(100, max(plan.seconds * 2, 10), warmup=3, ramp=1, stream_tokens=50)
    with Engines(INSTANCES, core=bench.cores.load) as engines:
        sides = plan.keep([DIRECT, POINTSMAN_SIDE, VLLM, SGLANG])
        runs = bench.interleave({side.name: _attempt(bench, side, load, engines) for side in sides})
    outcome = Outcome(
        "first_byte", "time to first byte, 100 streams: p50", ttfb("p50"), "us", runs, bench.rounds
    )
    for side in runs:
        if side != DIRECT.name and outcome.has(DIRECT.name, side):
            prefix = "" if side == POINTSMAN_SIDE.name else f"{side}_"
            for mark in ("p50", "p99"):
                added = outcome.median(side, ttfb(mark)) - outcome.median(DIRECT.name, ttfb(mark))
                outcome.figures[f"{prefix}added_ttfb_{mark}_us"] = added
    return outcome


def ttfb(mark: str) -> Callable[[Run], float]:
    return lambda run: float(run.report["first_byte_us"].get(mark, 0))


def accept_storm(bench: Bench, plan: Plan) -> Outcome:
    """2,000 connections at the same moment, one short stream each; time from connect to first byte."""
    load = Load(2000, seconds=30, stream_tokens=4, once=True)
    with Engines(INSTANCES, core=bench.cores.load) as engines:
        sides = plan.keep([DIRECT, POINTSMAN_SIDE, VLLM, SGLANG])
        runs = bench.interleave({side.name: _attempt(bench, side, load, engines) for side in sides})
    outcome = Outcome(
        "accept_storm", "accept storm of 2,000: p99 to first byte", ttfb("p99"), "us", runs, bench.rounds
    )
    for side in runs:
        if outcome.has(side):
            outcome.figures[f"storm_ttfb_p99_us_{side}"] = outcome.median(side)
    if outcome.has(POINTSMAN_SIDE.name, VLLM.name):
        outcome.figures["storm_ttfb_p99_vs_vllm_router"] = outcome.median(
            POINTSMAN_SIDE.name
        ) / outcome.median(VLLM.name)
    return outcome


def disaggregation(bench: Bench, plan: Plan) -> Outcome:
    """What a prefill leg and a decode leg cost more than one plain leg."""
    load = Load(connections=64, seconds=plan.seconds, warmup=2)
    plain, apart = POINTSMAN_SIDE, ours("pointsman-disaggregated", disaggregated=True)

    def attempt(side: Side, engines: Engines) -> Callable[[], Run]:
        def run() -> Run:
            before = engines.stats()
            measured = bench.run_once(side, load, engines)
            after = engines.stats()
            measured.extra = {
                key: after[key] - before[key] for key in ("requests", "prefill_legs", "decode_legs")
            }
            return measured

        return run

    with Engines(INSTANCES, core=bench.cores.load) as engines:
        runs = bench.interleave({side.name: attempt(side, engines) for side in (plain, apart)})
    outcome = Outcome(
        "disaggregation", "CPU per request, plain and disaggregated", _cpu_us, "us", runs, bench.rounds
    )
    outcome.figures["disaggregated_extra_cpu_us"] = outcome.median(apart.name) - outcome.median(plain.name)
    legs = [run.extra for run in used_runs(runs[apart.name], bench.rounds)]
    # 1: every answer came from a decode leg; less: the hybrid choice or a retry went another way.
    answered = min(leg["decode_legs"] / (leg["requests"] - leg["prefill_legs"]) for leg in legs)
    outcome.figures["disaggregated_share"] = answered
    return outcome


def _cpu_us(run: Run) -> float:
    return run.router_cpu_s / run.report["requests"] * 1e6 if run.report["requests"] else 0.0
