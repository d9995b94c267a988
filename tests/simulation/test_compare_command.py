"""`pointsman compare` as people call it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from pointsman.cli.compare import command, unequal
from pointsman.cli.comparison import CapacityError, Case, Compared, capacity_of, split_policies
from pointsman.cli.simulation import SimulationPlan, run_plan
from pointsman.core.placement.catalogue import POLICIES

POOLS = "2xmixed:a100-opt-13b"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rng = Random(2)
    at_s, lines = 0.0, ["timestamp_s,prompt_tokens,output_tokens"]
    for _ in range(120):
        at_s += rng.expovariate(3.0)
        lines.append(f"{at_s:.4f},{rng.randint(10, 3000)},{rng.randint(1, 300)}")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines))
    return path


def compare(trace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [str(trace), "--pools", POOLS, *arguments], catch_exceptions=False)


def test_every_policy_at_every_load(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    result = compare(
        trace,
        "--policies",
        "round_robin,least_requests",
        "--loads",
        "0.5,1",
        "--capacity",
        "4",
        "--json",
        str(file),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert [(one["policy"], one["load"]) for one in found] == [
        ("round_robin", 0.5), ("least_requests", 0.5), ("round_robin", 1.0), ("least_requests", 1.0),
    ]  # fmt: skip
    assert found[2]["rate_scale"] == pytest.approx(2 * found[0]["rate_scale"])
    assert found[0]["requests"] / found[0]["duration_s"] == pytest.approx(2.0, rel=0.25)
    assert "least_requests" in result.output
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "found.html").read_text()
    assert "<svg" in page
    assert not re.search(r'(src|href)="https?:', page), "it needs no other file"


def test_a_case_is_what_simulate_gives(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    compare(
        trace,
        "--policies",
        "power_of_two",
        "--rate-scales",
        "2",
        "--seed",
        "5",
        "--json",
        str(file),
        "--no-plot",
    )
    (found,) = json.loads(file.read_text())
    plan = SimulationPlan(str(trace), POOLS, "power_of_two", seed=5, rate_scale=2.0)
    alone = json.loads(json.dumps(run_plan(plan).report.as_json()))
    for name in ("wall_s", "simulated_requests_per_s"):
        found.pop(name), alone.pop(name)
    assert found.pop("load") is None
    assert found == alone
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("a:x=1,y=2,b,c:z=3", ["a:x=1,y=2", "b", "c:z=3"]),
        ("all", sorted(POLICIES)),
    ],
)
def test_policies_are_split(text: str, expected: list[str]) -> None:
    assert split_policies(text) == expected


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--policies", "round_robin", "--rate-scales", "1", "--loads", "1"), "give one"),
        (("--policies", "round_robin", "--rate-scales", "1,x"), "'x' is not a number above 0"),
        (("--policies", "round_robin", "--loads", "1", "--capacity", "no.json"), "no.json: No such file"),
        (("--policies", "round_robin", "--plot", "x", "--no-plot"), "contradict"),
        (("--policies", "psychic"), "unknown policy 'psychic'"),
    ],
)
def test_what_cannot_be_is_refused(trace: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = compare(trace, *arguments)
    assert result.exit_code != 0
    assert problem in " ".join(result.output.replace("│", " ").split())


def test_capacity_is_looked_up_by_trace_and_pools(tmp_path: Path) -> None:
    file = tmp_path / "capacity.json"
    file.write_text(json.dumps([{"trace": "t.csv", "pools": POOLS, "requests_per_s": 12.5}]))
    assert capacity_of(str(file), "some/t.csv", POOLS) == 12.5
    with pytest.raises(CapacityError, match=r"knows no capacity of '3xmixed:p' for t\.csv"):
        capacity_of(str(file), "t.csv", "3xmixed:p")
    file.write_text("{}x")
    with pytest.raises(CapacityError, match=r"is no list of \{trace, pools, requests_per_s\}"):
        capacity_of(str(file), "t.csv", POOLS)


def test_unequal_numbers_of_completed_requests_are_said(trace: Path) -> None:
    plan = SimulationPlan(str(trace), POOLS, "round_robin")
    whole = run_plan(plan).report
    part = run_plan(SimulationPlan(str(trace), POOLS, "round_robin", max_requests=50)).report
    assert unequal([Compared(Case(plan, None), whole), Compared(Case(plan, None), whole)]) == []
    (warning,) = unequal([Compared(Case(plan, None), whole), Compared(Case(plan, None), part)])
    assert "completed between 45 and 108 requests" in warning


def test_interrupted_it_writes_nothing(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    arguments = ["--pools", POOLS, "--policies", "all", "--rate-scales", "400,800", "--json", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman.cli", "compare", str(trace), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:  # its manager and a worker: it is at work
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors.decode()
    assert "interrupted: nothing was written" in errors.decode()
    assert list(tmp_path.glob("found*")) == []
