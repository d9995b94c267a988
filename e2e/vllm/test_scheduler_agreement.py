"""The engine loop schedules every iteration as vLLM's own scheduler does, given the same requests and blocks."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from realengine.environment import Environment

ROOT = Path(__file__).parents[2]
TRACES = ROOT.parent / "shared" / "data" / "traces"


def agreement(environment: Environment, folder: Path, *arguments: str) -> dict[str, Any]:
    report = folder / "agreement.json"
    model = ("--model", str(environment.model))
    result = subprocess.run(
        [environment.python, "-m", "scheduler_agreement", *model, "--json", report, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": ":".join(str(ROOT / root) for root in ("core", "sim", "bench")),
            "VLLM_CACHE_ROOT": str(environment.engine_cache),
            "VLLM_LOGGING_LEVEL": "ERROR",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_every_iteration_is_scheduled_as_vllm_schedules_it(environment: Environment, tmp_path: Path) -> None:
    total = agreement(environment, tmp_path, "--lives", "15")["random"]
    assert total["lives_that_differ"] == 0
    assert total["preemptions"]["theirs"] == total["preemptions"]["ours"] > 0
    assert total["prefix_hit_tokens"] > 0


@pytest.mark.long
def test_traces_are_scheduled_as_vllm_schedules_them(environment: Environment, tmp_path: Path) -> None:
    if not TRACES.exists():
        pytest.skip(f"no traces in {TRACES}")
    found = agreement(environment, tmp_path, "--lives", "0", "--traces", str(TRACES), "--requests", "150")
    assert len(found["trace_lives"]) == 4
    assert found["traces"]["lives_that_differ"] == 0
    assert found["traces"]["prefix_hit_tokens"] > 0
    assert found["traces"]["preemptions"]["ours"] > 0
