"""`pointsman compare` as people call it."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pointsman.cli.compare import command, unequal
from pointsman.cli.comparison import CapacityError, Case, Compared, capacity_of, run_case, split_policies
from pointsman.cli.comparison_plots import draw
from pointsman.cli.comparison_view import print_comparison
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


def test_each_policy_explains_where_one_request_went(trace: Path) -> None:
    result = compare(trace, "--policies", "round_robin,least_tokens", "--explain", "7", "--no-plot")
    assert re.findall(r"^(\w+) at x1: [\d.]+ s  request 7: ", result.output, re.MULTILINE) == [
        "round_robin",
        "least_tokens",
    ]
    assert "why=fewest outstanding tokens" in result.output


@pytest.mark.parametrize(
    ("width", "there", "gone"),
    [
        (150, ("load", "completed", "TPOT mean", "E2E p90"), ()),
        (80, ("least_requests", "in SLO", "TTFT p90", "TPOT p90", "E2E mean"), ("completed", "TPOT mean")),
        (20, ("least_requests", "in SLO"), ("goodput", "rate")),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(
    trace: Path, width: int, there: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    plan = SimulationPlan(str(trace), POOLS, "least_requests")
    out = StringIO()
    print_comparison([Compared(Case(plan, 0.5), run_plan(plan).report)], Console(file=out, width=width))
    table, _, note = out.getvalue().partition("left out")
    assert "…" not in table or width == 20
    if width > 20:
        assert all(name in table for name in there)
    assert not any(name in table for name in gone)
    assert all(name in " ".join(note.split()) for name in gone)


def test_one_load_is_drawn_as_bars_and_several_as_lines(trace: Path) -> None:
    def figure_of(*scales: float) -> Any:
        plans = [
            SimulationPlan(str(trace), POOLS, policy, rate_scale=scale)
            for scale in scales
            for policy in ("random", "round_robin")
        ]
        return draw([Compared(Case(plan, None), run_plan(plan).report) for plan in plans])

    bars, lines = figure_of(1.0), figure_of(1.0, 2.0)
    assert [len(axes.patches) for axes in bars.axes] == [2, 2, 2, 2]
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ["random", "round_robin"]
    assert [len(axes.lines) for axes in lines.axes] == [2, 2, 2, 2]


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


def test_no_profile_comes_back_from_another_process(trace: Path) -> None:
    """Compiled, the frozen classes of a profile cannot be unpickled."""
    case = Case(SimulationPlan(str(trace), POOLS, "round_robin"), 1.0)
    assert b"pointsman.core.perf" not in pickle.dumps(run_case(case, None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("a:x=1,y=2,b,c:z=3", ["a:x=1,y=2", "b", "c:z=3"]),
        ("a,b,a", ["a", "b"]),
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
        (("--policies", "round_robin", "--rate-scales", "1e9"), "at most 4000 times is possible"),
        (("--policies", "round_robin", "--json", "/nowhere/x.json"), "/nowhere is no folder"),
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
