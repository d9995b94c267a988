"""Failures, stops and starts of instances, as `--events` tells of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pointsman.cli.simulate import command

POOLS = "2xmixed:a100-opt-13b"
COLD_S = 180.0


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A request a second for 400 s, half a second of work each."""
    path = tmp_path / "trace.csv"
    lines = [f"{at},200,20" for at in range(400)]
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    return path


def simulate(trace: Path, events: str, *arguments: str, pools: str = POOLS) -> Result:
    file = trace.with_name("events.csv")
    file.write_text(events)
    options = ["--pools", pools, "--policy", "least_requests", "--events", str(file), *arguments]
    return CliRunner().invoke(command, [str(trace), *options])


def report(trace: Path, events: str, pools: str = POOLS) -> dict[str, Any]:
    file = trace.with_name("report.json")
    result = simulate(trace, events, "--json", str(file), pools=pools)
    assert result.exit_code == 0, result.output
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


HEADER = "at_s,instance,what\n"
WITH_STARTUP = "at_s,instance,what,startup\n"


@pytest.mark.parametrize(
    ("events", "alive_s"),
    [
        (HEADER + "100,mixed/2,fail\n", 100.0),
        (HEADER + "100.25,mixed/2,stop\n", 100.25),
        (WITH_STARTUP + "300,mixed/2,start,cold\n", 100.0),
        (WITH_STARTUP + "300,mixed/2,start,5\n350,mixed/2,fail,\n", 50.0),
        (WITH_STARTUP + "300,mixed/2,start,cold\n350,mixed/2,fail,\n", 50.0),
        (WITH_STARTUP + "100,mixed/2,fail,\n300,mixed/2,start,asleep\n", 200.0),
    ],
)
def test_an_instance_is_paid_for_while_it_is_there(trace: Path, events: str, alive_s: float) -> None:
    found = report(trace, events)
    assert (found["completed"], found["failed"]) == (360, 0)
    end_s = found["makespan_s"]
    assert found["instance_seconds"] == pytest.approx(end_s + alive_s, abs=1.5)


def test_a_cold_start_serves_after_what_the_profile_says(trace: Path) -> None:
    rejected = []
    for startup in ("cold", "image_cached", "3"):
        events = WITH_STARTUP + f"50,mixed/1,fail,\n50,mixed/1,start,{startup}\n"
        found = report(trace, events, pools="1xmixed:a100-opt-13b")
        rejected.append(found["rejected"])
    # Nobody waits longer than 5 s for an instance; the first tenth of the requests, 40, warms up.
    assert rejected == [pytest.approx(COLD_S - 5, abs=2), pytest.approx(90 - 5, abs=2), 0]


def test_stopping_loses_nothing_and_failing_repeats(trace: Path) -> None:
    stopped = report(trace, HEADER + "100.25,mixed/1,stop\n")
    failed = report(trace, HEADER + "100.25,mixed/1,fail\n")
    assert stopped["completed"] == failed["completed"] + failed["failed"] == 360
    assert not stopped["marks"]
    assert failed["failed"] + bool(failed["marks"]) == 1


def test_a_stopped_prefill_instance_stays_until_its_kv_was_fetched(trace: Path) -> None:
    pools = "2xprefill:a100-opt-13b,1xdecode:a100-opt-13b"
    found = report(trace, HEADER + "100.05,prefill-0/1,stop\n", pools=pools)
    assert (found["completed"], found["failed"], found["marks"]) == (360, 0, [])


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ("", "holds no events"),
        (HEADER, "holds no events"),
        ("at_s,instance\n", "line 1, what: is not among the columns at_s, instance"),
        (HEADER + "x,mixed/1,fail\n", "line 2, at_s: 'x' is not a number of seconds from 0"),
        (HEADER + "-1,mixed/1,fail\n", "line 2, at_s: '-1' is not a number of seconds from 0"),
        (HEADER + "1,mixed/3,fail\n", "line 2, instance: 'mixed/3' is none of mixed/1, mixed/2"),
        (HEADER + "1,mixed/1,explode\n", "line 2, what: 'explode' is none of fail, stop, start"),
        (HEADER + "1,mixed/1\n", "line 2: has 2 fields where the header names 3"),
        (WITH_STARTUP + "1,mixed/1,fail,cold\n", "line 2, startup: 'cold' says nothing beside fail"),
        (WITH_STARTUP + "1,mixed/1,start,warm\n", "line 2, startup: 'warm' is none of cold, image_cached"),
    ],
)
def test_bad_events_are_refused_with_file_line_and_field(trace: Path, events: str, problem: str) -> None:
    result = simulate(trace, events)
    assert result.exit_code == 2
    said = " ".join(result.output.replace("\u2502", " ").split())
    assert "events.csv" in said
    assert problem in said
