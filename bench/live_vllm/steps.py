"""The steps, each by the command that people use: measure, fit, replay, simulate."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live_vllm.engine import BLOCK_TOKENS, SERVING_CORE, EngineLimits, put_first
from live_vllm.load import as_served, write_trace
from pointsman.sim.workload.request import TraceRequest

LIKE = "a100-opt-13b"
"""Tells what a profile needs and nothing here depends on: transfer, start-up times."""
SLO = "ttft=5,tpot=0.5"
STEP_S = 600.0


@dataclass(frozen=True)
class Bench:
    """Where the engine is, what it runs under, and where files go."""

    url: str
    limits: EngineLimits
    folder: Path
    first: bool = False
    """Whether clients are put before whatever else the machine does."""

    def measure(self, grid: Mapping[str, str], name: str) -> Path:
        """Points of iterations, as CSV."""
        points = self.folder / f"{name}.points.csv"
        flags = [part for key, value in grid.items() for part in (f"--{key}", value)]
        self._pointsman("profile", "measure", self.url, *flags, "--out", str(points))
        return points

    def fit(self, measured: Sequence[Path], kv_tokens: int) -> Path:
        """A profile of all that was measured."""
        points, profile = self.folder / "points.csv", self.folder / "profile.json"
        header, *_ = measured[0].read_text(encoding="utf-8").splitlines()
        rows = [row for file in measured for row in file.read_text(encoding="utf-8").splitlines()[1:]]
        points.write_text("\n".join((header, *rows, "")), encoding="utf-8")
        limits = self.limits
        self._pointsman(
            *("profile", "fit", str(points), "--name", "live-vllm", "--like", LIKE, "--out", str(profile)),
            *("--model", "tiny", "--engine", "vllm", "--accelerator", "cpu-core", "--tensor-parallel", "1"),
            *("--max-batched-tokens", str(limits.batched_tokens), "--max-sequences", str(limits.sequences)),
            *("--block-size", str(BLOCK_TOKENS), "--kv-capacity-tokens", str(kv_tokens)),
            *("--source", "measured from outside by bench/live_vllm"),
        )
        return profile

    def play(self, name: str, requests: Sequence[TraceRequest]) -> "Played":
        """On the engine."""
        trace, served = self.folder / f"{name}.csv", self.folder / f"{name}.served.csv"
        records, live = self.folder / f"{name}.records.jsonl", self.folder / f"{name}.live.json"
        write_trace(trace, requests)
        self._pointsman(
            *("replay", str(trace), "--url", self.url, "--token-ids", "--slo", SLO),
            *("--records", str(records), "--json", str(live), "--engine-metrics", self.url),
        )
        write_trace(served, as_served(requests, records))
        return Played(served, json.loads(live.read_text()))

    def simulate(self, played: "Played", profile: Path) -> "Both":
        """What the engine was really sent, with the profile."""
        simulated = played.served.with_suffix(".simulated.json")
        self._pointsman(
            *("simulate", str(played.served), "--pools", f"1xmixed:{profile}", "--policy", "round_robin"),
            *("--chunk", str(self.limits.batched_tokens), "--slo", SLO, "--json", str(simulated)),
        )
        return Both(played.live, json.loads(simulated.read_text()))

    def _pointsman(self, *arguments: str) -> None:
        """Runs the command on the serving core, in a session of its own. Raises CalledProcessError."""
        python = (sys.executable, "-m", "pointsman.cli")
        command = ("taskset", "--cpu-list", str(SERVING_CORE), *python, *arguments)
        with subprocess.Popen(command, stdout=sys.stderr, start_new_session=True) as process:
            if self.first:
                put_first(process.pid)
            try:
                status = process.wait(STEP_S)
            finally:
                process.kill()
        if status:
            raise subprocess.CalledProcessError(status, command)


@dataclass(frozen=True)
class Played:
    """What was played, and the report of it."""

    served: Path
    live: Mapping[str, Any]


@dataclass(frozen=True)
class Both:
    """Reports of the same requests."""

    live: Mapping[str, Any]
    simulated: Mapping[str, Any]
