"""The replay bench: how it finds a load, which runs it makes, and what kills may cost."""

import random
from pathlib import Path
from typing import Any

import pytest
from replay.__main__ import runs
from replay.capacity import ATTAINMENT, PRECISION, find_capacity, pools_of
from replay.kills import Kill, judge

from pointsman.cli.cluster import ClusterOptions
from pointsman.cli.simulation import SimulationPlan, run_plan

ONE = ClusterOptions(prefill=0, decode=0, mixed=1)


def test_capacity_is_where_attainment_falls(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rng, now_s, lines = random.Random(1), 0.0, ["timestamp_s,prompt_tokens,output_tokens"]
    for _ in range(300):
        now_s += rng.expovariate(1.0)
        lines.append(f"{now_s:.3f},{rng.randint(200, 2000)},{rng.randint(20, 200)}")
    trace.write_text("\n".join(lines))
    found = find_capacity(trace, 300, ONE, "least_tokens")
    assert found.attainment >= ATTAINMENT
    beyond = SimulationPlan(
        str(trace), pools_of(ONE), "least_tokens", rate_scale=found.rate_scale * (1 + PRECISION)
    )
    assert run_plan(beyond).report.as_json()["slo"]["attainment"] < ATTAINMENT


def test_pools_are_named_as_the_simulator_names_them() -> None:
    assert pools_of(ClusterOptions(prefill=4, decode=4)) == "4xprefill:a100-opt-13b,4xdecode:a100-opt-13b"
    assert pools_of(ONE) == "1xmixed:a100-opt-13b"


def test_engines_are_killed_in_a_run_of_their_own() -> None:
    assert runs(["4+4", "8"], 12.0) == [("4+4", None), ("8", None), ("4+4", 12.0)]
    assert runs(["4+4", "8"], 0.0) == [("4+4", None), ("8", None)]
    assert runs(["8"], 12.0) == [("8", None)]


DECISION = "prefill=http://a;decode=http://b;policy=x"


@pytest.mark.parametrize(
    ("case", "status", "end_s", "killed", "excused"),
    [
        ("its decode instance died", 200, 101.0, "http://b", True),
        ("its prefill instance died", 200, 101.0, "http://a", True),
        ("another died", 200, 101.0, "http://c", False),
        ("an address that merely begins like it", 200, 101.0, "http://", False),
        ("long after", 200, 100.0 + 3.0 * 5.0 + 1.0, "http://b", False),
        ("before", 200, 99.0, "http://b", False),
        ("before the first byte", 502, 101.0, "http://b", False),
    ],
)
def test_what_a_kill_excuses(case: str, status: int, end_s: float, killed: str, *, excused: bool) -> None:
    record: dict[str, Any] = {"outcome": "failed", "status": status, "decision": DECISION, "end_s": end_s}
    ended = {"outcome": "completed", "status": 200, "decision": DECISION, "end_s": end_s}
    losses = judge([record, ended], [Kill(100.0, killed, "decode-1")], speed=5.0)
    assert (losses.own_instance_died_after_first_byte, len(losses.other)) == (
        int(excused),
        int(not excused),
    ), case
