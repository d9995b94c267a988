"""The same trace under the same policy, live and simulated: latencies agree.

Live: `pointsman engine`s at real speed behind the router, loaded by `pointsman replay`. What a live request takes longer
than a simulated one while nothing else runs is measured first, stated, and subtracted. How far the engines say they were
behind their virtual clocks under load is stated too, and not subtracted. Takes three and a half minutes.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from pointsman.sim.workload.generate import Generated
from pointsman.sim.workload.published import AZURE_CONVERSATION_2023
from pointsman.sim.workload.request import TraceRequest

PROFILE = "a100-opt-13b"
INSTANCES = 4
REQUESTS_PER_S = 4.0
REQUESTS = 240
IDLE_REQUESTS = 20
IDLE_GAP_S = 1.4
SHARE, ABSOLUTE_S = 0.05, 0.002
SIMULATED_PLAYS, LIVE_PLAYS = 20, 2
LATE_S = 0.006
"""Somewhat more than what an idle cluster adds to the first token."""
MOST_LAG = 0.05
"""Share of the mean TTFT that engines may be late by; beyond it a report is marked, and proves nothing."""
FIGURES = ("ttft_s", "tpot_s", "e2e_s")
STATISTICS = ("mean", "p90")
Latencies = dict[tuple[str, str], float]
"""Seconds by figure and statistic."""
REPORT = Path("build/parity.json")


@dataclass(frozen=True)
class Row:
    """One figure, live, without what an idle cluster takes longer, and simulated."""

    name: str
    live_s: float
    corrected_s: float
    simulated_s: float

    @property
    def agrees(self) -> bool:
        return abs(self.corrected_s - self.simulated_s) <= max(SHARE * self.simulated_s, ABSOLUTE_S)


def written(requests: list[TraceRequest], path: Path) -> Path:
    lines = ["timestamp_s,prompt_tokens,output_tokens"]
    lines += [f"{r.arrival_s:.4f},{r.prompt_tokens},{r.output_tokens}" for r in requests]
    path.write_text("\n".join(lines))
    return path


def pointsman(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pointsman.cli", *arguments]


@contextmanager
def cluster(policy: str) -> Iterator[str]:
    """Its URL. Everything has ended behind the block."""
    command = pointsman(
        "up", "--mixed", str(INSTANCES), "--profile", PROFILE, "--policy", policy, "--port", "0"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = next(
                found[1] for line in process.stdout if (found := re.match(r"(http://\S+)/v1$", line.strip()))
            )
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def ran(arguments: list[str], file: Path) -> dict[str, Any]:
    done = subprocess.run(
        pointsman(*arguments, "--json", str(file)), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["completed"] == found["requests"], done.stdout
    return found


def live(trace: Path, url: str, policy: str) -> dict[str, Any]:
    return ran(["replay", str(trace), "--url", url, "--policy", policy], trace.with_suffix(".live.json"))


def simulated(trace: Path, policy: str) -> dict[str, Any]:
    pools = f"{INSTANCES}xmixed:{PROFILE}"
    return ran(["simulate", str(trace), "--pools", pools, "--policy", policy], trace.with_suffix(".sim.json"))


def latencies(plays: Sequence[dict[str, Any]]) -> Latencies:
    """The mean of some plays."""
    return {(name, which): fmean(p[name][which] for p in plays) for name in FIGURES for which in STATISTICS}


def simulated_late(requests: list[TraceRequest], policy: str, folder: Path) -> Latencies:
    """The mean of plays whose arrivals are late by up to LATE_S."""
    plays = []
    for seed in range(SIMULATED_PLAYS):
        rng = Random(seed)
        late = [replace(one, arrival_s=one.arrival_s + rng.uniform(0.0, LATE_S)) for one in requests]
        late.sort(key=lambda one: one.arrival_s)
        plays.append(simulated(written(late, folder / f"late-{seed}.csv"), policy))
    return latencies(plays)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("policy", ["round_robin", "least_tokens"])
def test_live_and_simulated_latencies_agree(policy: str, tmp_path: Path) -> None:
    statistics = replace(AZURE_CONVERSATION_2023, requests_per_s=REQUESTS_PER_S)
    requests = list(Generated(statistics, REQUESTS, seed=7))
    load = written(requests, tmp_path / "load.csv")
    idle = written(
        [TraceRequest(i * IDLE_GAP_S, 300, 16) for i in range(IDLE_REQUESTS)], tmp_path / "idle.csv"
    )
    expected = simulated_late(requests, policy, tmp_path)
    used_s, start_s = children_s(), time.monotonic()
    plays: list[dict[str, Any]] = []
    lags: list[float] = []
    with cluster(policy) as url:
        idle_live, idle_simulated = live(idle, url, policy), simulated(idle, policy)
        overhead = {name: idle_live[name]["mean"] - idle_simulated[name]["mean"] for name in FIGURES}
        rows: list[Row] = []
        for _ in range(LIVE_PLAYS):
            play = live(load, url, policy)
            lags.append(play["engine_lag"])
            if play["engine_lag"] > MOST_LAG:  # whatever else the host is at may be over the next time
                continue
            plays.append(play)
            rows = [
                Row(f"{name} {which}", found_s, found_s - overhead[name], expected[name, which])
                for (name, which), found_s in latencies(plays).items()
            ]
            if all(row.agrees for row in rows):
                break
    cores = (children_s() - used_s) / (time.monotonic() - start_s)
    if not plays:
        pytest.skip(
            f"the host is too busy to tell: its engines lag by {min(lags):.1%} of the mean TTFT and more"
        )
    report(policy, overhead, rows, len(plays), cores, max(lags))
    assert [row for row in rows if not row.agrees] == []


def children_s() -> float:
    """CPU time of everything started here that has ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(
    policy: str,
    overhead: dict[str, float],
    rows: list[Row],
    plays: int,
    cores: float,
    lag: float,
) -> None:
    """Into build/parity.json, and for whoever watches with -s."""
    known = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    known[policy] = {
        "requests_per_s": REQUESTS_PER_S,
        "requests": REQUESTS,
        "live_plays": plays,
        "cores": round(cores, 3),
        "engine_lag": lag,
        "zero_load_overhead_s": overhead,
        "figures": [asdict(row) for row in rows],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(known, indent=2) + "\n")
    sys.stdout.write(f"\n{policy}: {plays} live, {cores:.2f} cores, zero-load overhead ")
    sys.stdout.write(", ".join(f"{name} {value * 1000:.2f} ms" for name, value in overhead.items()))
    sys.stdout.write(f", engines' lag under load {lag:.2%} of TTFT\n")
    for row in rows:
        sys.stdout.write(
            f"  {row.name}: live {row.corrected_s * 1000:.1f} ms, simulated {row.simulated_s * 1000:.1f} ms "
            f"({row.corrected_s / row.simulated_s - 1:+.2%})\n"
        )
