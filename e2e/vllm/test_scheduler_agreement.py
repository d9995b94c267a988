"""The engine loop schedules every iteration as vLLM's own scheduler does, given the same requests and blocks."""

import json
import os
import subprocess
from pathlib import Path

from realengine.environment import Environment

ROOT = Path(__file__).parents[2]


def test_every_iteration_is_scheduled_as_vllm_schedules_it(environment: Environment, tmp_path: Path) -> None:
    report = tmp_path / "agreement.json"
    result = subprocess.run(
        [
            environment.python,
            ROOT / "bench" / "scheduler_agreement.py",
            *("--model", environment.model, "--lives", "15", "--json", report),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'sim'}",
            "VLLM_CACHE_ROOT": str(environment.engine_cache),
            "VLLM_LOGGING_LEVEL": "ERROR",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    total = json.loads(report.read_text())["total"]
    assert total["lives_that_differ"] == 0, result.stdout
    assert total["preemptions"]["theirs"] == total["preemptions"]["ours"] > 0
    assert total["prefix_hit_tokens"] > 0
