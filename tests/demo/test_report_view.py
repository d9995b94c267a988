"""The report on a terminal and in a file."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from pointsman.cli.report_view import print_report, seconds, share, write_json
from pointsman.core.slo import Slo
from pointsman.sim.report import (
    ClusterFigures,
    Measurements,
    Outcome,
    Report,
    RequestResult,
    RunCourse,
    RunFacts,
)


@pytest.fixture
def report() -> Report:
    measurements = Measurements(planned=2)
    measurements.add(
        0,
        RequestResult(
            *(0.0, 3.0, Outcome.COMPLETED, Slo(1.0, 1.0)),
            first_token_s=0.25,
            last_token_s=1.0,
            output_tokens=2,
            gaps_s=[0.75],
        ),
    )
    measurements.add(1, RequestResult(1.0, 2.0, Outcome.FAILED, Slo(1.0, 1.0)))
    facts = RunFacts(trace="t.csv.gz", policy="session", speed=5.0, slo_rule="TTFT <= 1 s, TPOT <= 1 s")
    cluster = ClusterFigures(prefix_hit_rate=0.25, preemptions=3, engine_lag=0.01)
    course = RunCourse(1.5, client_lag_s=0.004, marks=("something odd",), errors={"500: [x] broke": 1})
    return measurements.report(facts, cluster, course)


def printed(report: Report) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        print_report(report, console)
    return capture.get()


def test_everything_worth_knowing_is_in_the_table(report: Report) -> None:
    text = printed(report)
    for said in (
        "t.csv.gz, rate x1, speed x5",
        "2 measured: 1 completed, 1 failed, 0 rejected",
        "TTFT <= 1 s, TPOT <= 1 s",
        "prefix hits 25.0%, preemptions 3",
        "client lag p99 4 ms, engine lag 1.0% of TTFT",
        "TTFT   250 ms",
        "! something odd",
        "1 x 500: [x] broke",
    ):
        assert said in text


def test_without_an_slo_the_table_says_how_to_give_one(report: Report) -> None:
    bare = replace(report, slo=replace(report.slo, rule=None, attainment=None), engine_lag=None)
    assert "none given: --slo or --profile" in printed(bare)
    assert "attainment" not in printed(bare)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.00123, "1.23 ms"),
        (0.0999, "99.9 ms"),
        (0.09999, "100 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1 s"),
        (12.345, "12.3 s"),
        (1234.5, "1234 s"),
    ],
)
def test_durations_have_three_digits_and_a_fitting_unit(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_shares() -> None:
    assert (share(None), share(0.123)) == ("-", "12.3%")


def test_a_report_file_is_whole_or_not_there(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    write_json(file, report.as_json())
    before = file.read_bytes()
    assert orjson.loads(before)["slo"]["attainment"] == 0.5
    with pytest.raises(TypeError):
        write_json(file, {"not": object()})
    with pytest.raises(OSError, match="No such file"):
        write_json(tmp_path / "nowhere" / "out.json", {})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
