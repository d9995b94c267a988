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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
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
MOST_LAG = 0.05
"""Share of the mean TTFT that engines may be late by; beyond it a report is marked, and proves nothing."""
FIGURES = ("ttft_s", "tpot_s", "e2e_s")
REPORT = Path("build/parity.json")


@dataclass(frozen=True)
class Load:
    """A trace on disk, and how it is asked for."""

    path: Path
    requests: list[TraceRequest]

    def write(self) -> "Load":
        lines = ["timestamp_s,prompt_tokens,output_tokens"]
        lines += [f"{r.arrival_s:.4f},{r.prompt_tokens},{r.output_tokens}" for r in self.requests]
        self.path.write_text("\n".join(lines))
        return self


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


def both(load: Load, url: str, policy: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Live and simulated."""
    live = ran(
        ["replay", str(load.path), "--url", url, "--policy", policy], load.path.with_suffix(".live.json")
    )
    simulated = ran(
        ["simulate", str(load.path), "--pools", f"{INSTANCES}xmixed:{PROFILE}", "--policy", policy],
        load.path.with_suffix(".sim.json"),
    )
    return live, simulated


@pytest.mark.timeout(400)
@pytest.mark.parametrize("policy", ["round_robin", "least_tokens"])
def test_live_and_simulated_latencies_agree(policy: str, tmp_path: Path) -> None:
    statistics = replace(AZURE_CONVERSATION_2023, requests_per_s=REQUESTS_PER_S)
    load = Load(tmp_path / "load.csv", list(Generated(statistics, REQUESTS, seed=7))).write()
    idle = Load(
        tmp_path / "idle.csv", [TraceRequest(i * IDLE_GAP_S, 300, 16) for i in range(IDLE_REQUESTS)]
    ).write()
    used_s, start_s = children_s(), time.monotonic()
    with cluster(policy) as url:
        live, simulated = both(idle, url, policy)
        overhead = {name: live[name]["mean"] - simulated[name]["mean"] for name in FIGURES}
        live, simulated = both(load, url, policy)
        if live["engine_lag"] > MOST_LAG:  # once more: whatever else the host was at may be over
            live, simulated = both(load, url, policy)
    cores = (children_s() - used_s) / (time.monotonic() - start_s)
    rows = [
        (
            name,
            statistic,
            live[name][statistic],
            live[name][statistic] - overhead[name],
            simulated[name][statistic],
        )
        for name in FIGURES
        for statistic in ("mean", "p90")
    ]
    report(policy, overhead, rows, cores, live["engine_lag"])
    if live["engine_lag"] > MOST_LAG:
        pytest.skip(
            f"the host is too busy to tell: its engines lag {live['engine_lag']:.1%} of the mean TTFT"
        )
    for name, statistic, _, corrected_s, simulated_s in rows:
        allowed_s = max(SHARE * simulated_s, ABSOLUTE_S)
        assert corrected_s == pytest.approx(simulated_s, abs=allowed_s), f"{name} {statistic} ({policy})"


def children_s() -> float:
    """CPU time of everything started here that has ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(
    policy: str,
    overhead: dict[str, float],
    rows: list[tuple[str, str, float, float, float]],
    cores: float,
    lag: float,
) -> None:
    """Into build/parity.json, and for whoever watches with -s."""
    known = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    known[policy] = {
        "requests_per_s": REQUESTS_PER_S,
        "requests": REQUESTS,
        "cores": round(cores, 3),
        "engine_lag": lag,
        "zero_load_overhead_s": overhead,
        "figures": [
            {"name": f"{name} {which}", "live_s": live, "corrected_s": corrected, "simulated_s": simulated}
            for name, which, live, corrected, simulated in rows
        ],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(known, indent=2) + "\n")
    sys.stdout.write(f"\n{policy}: {cores:.2f} cores, zero-load overhead ")
    sys.stdout.write(", ".join(f"{name} {value * 1000:.2f} ms" for name, value in overhead.items()))
    sys.stdout.write(f", engines' lag under load {lag:.2%} of TTFT\n")
    for name, which, _, corrected, simulated in rows:
        sys.stdout.write(
            f"  {name} {which}: live {corrected * 1000:.1f} ms, simulated {simulated * 1000:.1f} ms "
            f"({corrected / simulated - 1:+.2%})\n"
        )
