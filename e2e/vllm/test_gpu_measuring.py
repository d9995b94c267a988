"""`bench/gpu/measure.py` on the CPU, with the PyTorch of vLLM's environment: its points make a profile."""

import json
import re
import subprocess
import sys
from pathlib import Path

from pointsman.api.profile import load_profile_file
from pointsman.profiling.points import read_points
from realengine.environment import Environment

ROOT = Path(__file__).parents[2]
SIZES = ("--longest-chunk", "128", "--most-sequences", "16", "--longest-context", "512", "--repeats", "2")


def test_what_it_measures_can_be_fitted(environment: Environment, tmp_path: Path) -> None:
    points, profile = tmp_path / "points.csv", tmp_path / "mine.json"
    program = ROOT / "bench" / "gpu" / "measure.py"
    tiny = ("--device", "cpu", "--shape", "tiny", "--dtype", "float32", "--kv-tokens", "2500")
    done = subprocess.run(
        [environment.python, program, *tiny, *SIZES, "--verify", "--out", points],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (differs,) = re.findall(r"differ from a whole prompt by (\S+)", done.stderr)
    assert float(differs) < 1e-4
    phases = [point.phase for point in read_points(points)]
    facts = json.loads(points.with_suffix(".json").read_text())
    assert (facts["points"], facts["dtype"], facts["shape"]) == (len(phases), "float32", "tiny")
    assert facts["left_out_for_room"] > 0
    assert set(phases) == {"prefill", "decode", "mixed"}
    command = [sys.executable, "-m", "pointsman.cli", "profile", "fit", str(points)]
    command += ["--name", "mine", "--like", "a100-opt-13b", "--out", str(profile)]
    fitted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert fitted.returncode == 0, fitted.stdout + fitted.stderr
    assert load_profile_file(profile).provenance.points_used == len(phases)
