"""Replays a trace on simulated engines: 4 prefill + 4 decode, 8 mixed, and 4 + 4 of which some are killed, side by side.

    make bench-replay TRACE=FILE ARGS="[--requests N] [--speed X] [--load SHARE] [--kill-every S] [--out FILE]"

Load is a share of what the cluster sustains by the simulator (replay.capacity). A run whose engines were late by more
than 5% of the mean TTFT is made once more, at half the speed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import uvloop
from replay import kills
from replay.capacity import LEAST_REQUESTS, Capacity, find_capacity
from rich.console import Console
from rich.table import Table

from pointsman.cli.cluster import DEFAULT_PROFILE, Cluster, ClusterOptions
from pointsman.cli.options import profile_named
from pointsman.cli.report_view import print_report, seconds, share, write_json
from pointsman.loadgen.client import LoadOptions
from pointsman.loadgen.replay import Plan, Replay, Target
from pointsman.loadgen.wire import Dialect, Endpoint
from pointsman.sim.objective import ProfileObjective
from pointsman.sim.report import Report, RunFacts
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace import TraceFile

CLUSTERS = {
    "4+4": ClusterOptions(prefill=4, decode=4),
    "8": ClusterOptions(prefill=0, decode=0, mixed=8),
}
KILLED = "4+4"
"""Whose engines are killed, in the last run."""
MOST_ENGINE_LAG = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One cluster under one load."""

    name: str
    options: ClusterOptions
    trace: Path
    rate_scale: float
    requests: int
    kill_every_s: float | None

    async def play(self, records: Path) -> tuple[Report, list[kills.Kill]]:
        profile = profile_named(DEFAULT_PROFILE)
        options = replace(self.options, restart=self.kill_every_s is not None)
        async with Cluster(
            options, profile.model, lambda said: print(said.splitlines()[0], file=sys.stderr)
        ) as cluster:
            replay = Replay(
                self._target(cluster, profile.model), self._plan(ProfileObjective(profile), records)
            )
            killer = kills.Killer(cluster, self.kill_every_s or 0.0, seed=0)
            killing = asyncio.create_task(killer.run(replay.client)) if self.kill_every_s else None
            try:
                return await replay.run(), killer.kills
            finally:
                if killing is not None:
                    killing.cancel()
                    with suppress(asyncio.CancelledError):
                        await killing

    def _target(self, cluster: Cluster, model: str) -> Target:
        engines = tuple(Endpoint.from_url(engine.url) for engine in cluster.engines)
        return Target(Endpoint.from_url(cluster.url), Dialect(model, explain=True), engines, len(engines))

    def _plan(self, objective: ProfileObjective, records: Path) -> Plan:
        facts = RunFacts(
            trace=self.trace.name,
            policy=self.options.policy,
            pools=self.options.describe(),
            rate_scale=self.rate_scale,
            speed=self.options.speed,
            slo_rule=objective.rule,
        )
        workload = Cut(RateScaled(TraceFile(self.trace), self.rate_scale), self.requests)
        return Plan(workload, facts, objective, LoadOptions(self.options.speed), records)


def main() -> None:
    asked = arguments()
    capacities: dict[str, Capacity] = {}
    found = []
    for name, kill_every_s in runs(asked.clusters, asked.kill_every):
        if name not in capacities and asked.rate_scale is None:
            capacities[name] = found_capacity(asked, CLUSTERS[name])
        rate_scale = asked.rate_scale or asked.load * capacities[name].rate_scale
        options = replace(CLUSTERS[name], speed=asked.speed, policy=asked.policy)
        run = Run(name, options, asked.trace, rate_scale, asked.requests, kill_every_s)
        played = play(run)
        if (played["report"]["engine_lag"] or 0.0) > MOST_ENGINE_LAG:
            print(f"engines were late: once more, at --speed {asked.speed / 2:g}", file=sys.stderr)
            played = play(replace(run, options=replace(options, speed=asked.speed / 2)))
        if name in capacities:
            played["capacity"] = capacities[name].as_json()
        found.append(played)
    Console(width=160).print(side_by_side(found))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(asked.out, found)


def runs(clusters: list[str], kill_every_s: float) -> list[tuple[str, float | None]]:
    """Each cluster undisturbed, and one of them killed."""
    undisturbed: list[tuple[str, float | None]] = [(name, None) for name in clusters]
    return undisturbed + ([(KILLED, kill_every_s)] if kill_every_s and KILLED in clusters else [])


def found_capacity(asked: argparse.Namespace, options: ClusterOptions) -> Capacity:
    capacity = find_capacity(asked.trace, max(asked.requests, LEAST_REQUESTS), options, asked.policy)
    print(
        f"{options.describe()}: at {capacity.rate_scale:.2f} times the trace's rate "
        f"{capacity.attainment:.0%} meet their SLO by the simulator",
        file=sys.stderr,
    )
    return capacity


def play(run: Run) -> dict[str, Any]:
    """The run's report and what kills cost in it."""
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        report, killed = uvloop.run(run.play(records))
        lost = kills.judge(map(orjson.loads, records.read_bytes().splitlines()), killed, run.options.speed)
    print_report(report)
    return {
        "cluster": run.name,
        "kill_every_s": run.kill_every_s,
        "report": report.as_json(),
        "kills": [{"at_s": kill.at_s, "instance": kill.name} for kill in killed],
        "losses": lost.as_json(),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--speed", type=float, default=5.0, help="times real time")
    parser.add_argument("--load", type=float, default=0.8, help="share of each cluster's capacity")
    parser.add_argument("--rate-scale", type=float, help="times the trace's rate, instead of --load")
    parser.add_argument("--policy", default="least_tokens")
    parser.add_argument("--clusters", nargs="+", choices=CLUSTERS, default=list(CLUSTERS))
    parser.add_argument(
        "--kill-every",
        type=float,
        default=12.0,
        metavar="S",
        help="in a third run SIGKILL an engine so often, wall time; 0: no such run",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/replay.json"))
    return parser.parse_args()


def side_by_side(found: list[dict[str, Any]]) -> Table:
    table = Table("")
    for one in found:
        killed = f",\none killed every {one['kill_every_s']:g} s" if one["kill_every_s"] else ""
        table.add_column(one["report"]["pools"] + killed, justify="right")
    rows = {
        "rate scale": lambda r: f"{r['rate_scale']:.2f}",
        "speed": lambda r: f"{r['speed']:g}",
        "requests/s": lambda r: f"{r['request_rate']:.2f}",
        "completed / failed / rejected": lambda r: f"{r['completed']} / {r['failed']} / {r['rejected']}",
        "SLO attainment": lambda r: share(r["slo"]["attainment"]),
        "goodput": lambda r: f"{r['goodput']:.2f}/s",
        **{
            f"{name.upper()} {which}": _latency(f"{name}_s", which)
            for name in ("ttft", "tpot", "itl", "e2e")
            for which in ("mean", "p50", "p90", "p99")
        },
        "preemptions": lambda r: str(r["preemptions"]),
        "engine lag": lambda r: share(r["engine_lag"]),
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(one["report"]) for one in found))
    table.add_row("engines killed", *(str(len(one["kills"])) for one in found))
    table.add_row(
        "failed with their instance",
        *(str(one["losses"]["own_instance_died_after_first_byte"]) for one in found),
    )
    table.add_row("failed otherwise", *(str(len(one["losses"]["other"])) for one in found))
    return table


def _latency(name: str, which: str) -> Any:
    def cell(report: Mapping[str, Any]) -> str:
        return seconds(report[name][which])

    return cell


if __name__ == "__main__":
    main()
