"""Replays a trace on two clusters of simulated engines, 4 prefill + 4 decode and 8 mixed, side by side.

    make bench-replay TRACE=FILE ARGS="[--requests N] [--speed X] [--kill-every S] [--out FILE]"

docs/replaying-traces.md says how the rates were found.
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
LOAD_80 = {"4+4": 1.8, "8": 2.1}
"""Rate scales of azure2023_conv that are 80% of what the cluster sustains."""


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
    found = []
    for name in asked.clusters:
        options = replace(CLUSTERS[name], speed=asked.speed, policy=asked.policy)
        rate_scale = asked.rate_scale or LOAD_80[name]
        run = Run(name, options, asked.trace, rate_scale, asked.requests, asked.kill_every)
        with tempfile.TemporaryDirectory() as folder:
            records = Path(folder) / "records.jsonl"
            report, killed = uvloop.run(run.play(records))
            lost = kills.judge(map(orjson.loads, records.read_bytes().splitlines()), killed, asked.speed)
        print_report(report)
        found.append(
            {
                "cluster": name,
                "report": report.as_json(),
                "kills": [{"at_s": kill.at_s, "instance": kill.name} for kill in killed],
                "losses": lost.as_json(),
            }
        )
    Console().print(side_by_side(found))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(asked.out, found)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--speed", type=float, default=5.0, help="times real time")
    parser.add_argument("--rate-scale", type=float, help="default: about 80%% load, for each cluster its own")
    parser.add_argument("--policy", default="least_tokens")
    parser.add_argument("--clusters", nargs="+", choices=CLUSTERS, default=list(CLUSTERS))
    parser.add_argument("--kill-every", type=float, metavar="S", help="SIGKILL an engine so often, wall time")
    parser.add_argument("--out", type=Path, default=Path("build/bench/replay.json"))
    return parser.parse_args()


def side_by_side(found: list[dict[str, Any]]) -> Table:
    table = Table("")
    for one in found:
        table.add_column(one["report"]["pools"], justify="right")
    rows = {
        "rate scale": lambda r: f"{r['rate_scale']:g}",
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
