"""One seed, one result, whatever the processor can do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pointsman.sim.workload.generate import Generated
from pointsman.sim.workload.published import AZURE_CONVERSATION_2023

POLICIES = ("least_tokens", "kv_cost", "session")


def dispatched() -> list[str]:
    """Features of this processor that numpy chooses its loops by, and that it can be told not to use."""
    found: dict[str, list[str]] = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[assignment]
    return list(found.get("found", []))


@pytest.mark.parametrize("policy", POLICIES)
def test_numpy_without_its_fast_loops_gives_the_same(policy: str, tmp_path: Path) -> None:
    features = dispatched()
    if not features:
        pytest.skip("numpy dispatches to nothing on this processor")
    trace = tmp_path / "trace.csv"
    lines = [
        f"{r.arrival_s},{r.prompt_tokens},{r.output_tokens}" for r in Generated(AZURE_CONVERSATION_2023, 300)
    ]
    trace.write_text("\n".join(["timestamp_s,prompt_tokens,output_tokens", *lines]))
    command = [sys.executable, "-m", "pointsman.cli", "simulate", str(trace), "--policy", policy]
    command += ["--pools", "80xmixed:a100-opt-13b"]  # more than are looped over without numpy
    reports = []
    for disabled in ("", " ".join(features)):
        file = tmp_path / "report.json"
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        done = subprocess.run(
            [*command, "--json", str(file)], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        report = json.loads(file.read_text())
        reports.append(
            {name: report[name] for name in report if name not in ("wall_s", "simulated_requests_per_s")}
        )
    assert reports[0] == reports[1]
