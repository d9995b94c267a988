"""Predicted answer lengths from files."""

import gzip
from pathlib import Path

import pytest

from pointsman.sim.workload.predictions import Predicted, is_predictions, read_predictions
from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace import TraceError

REQUESTS = [TraceRequest(float(at), 100, 10 + at) for at in range(6)]
CSV = "predicted_output_tokens\n" + "".join(f"{100 + at}\n" for at in range(6))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "predicted_output_tokens\n5\n0\n12.6\n0.2\n", [5, 0, 13, 1]),
        ("a.csv", "index,model,predicted_output_tokens\n0,x,5\n\n1,y,6\n", [5, 6]),
        (
            "a.JSONL",
            '{"predicted_output_tokens": 5}\n\n{"predicted_output_tokens": 6.4, "index": 1}\n',
            [5, 6],
        ),
        ("a.csv", "", []),
    ],
)
def test_what_files_say(tmp_path: Path, name: str, text: str, found: list[int]) -> None:
    for path, data in (
        (tmp_path / name, text.encode()),
        (tmp_path / f"{name}.gz", gzip.compress(text.encode())),
    ):
        path.write_bytes(data)
        assert is_predictions(str(path))
        assert list(read_predictions(path)) == found


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "tokens\n5\n", "a.csv, line 1, predicted_output_tokens: is not among the columns tokens"),
        (
            "a.csv",
            "predicted_output_tokens\n5\nx\n",
            "line 3, predicted_output_tokens: 'x' is not a number from 0",
        ),
        ("a.csv", "predicted_output_tokens\n-1\n", "line 2, predicted_output_tokens: '-1' is not a number"),
        ("a.csv", "predicted_output_tokens\nnan\n", "line 2, predicted_output_tokens: 'nan' is not a number"),
        (
            "a.csv",
            "predicted_output_tokens,index\n5,0\n5,2\n",
            "line 3, index: 2 where request 1 of the workload is due",
        ),
        ("a.csv", "predicted_output_tokens,index\n5\n", "line 2: has 1 fields where the header names 2"),
        ("a.csv", 'predicted_output_tokens\n"5', "line 2: is not CSV"),
        ("a.jsonl", "{\n", "line 1: is not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: \[1\] is not a JSON object"),
        ("a.jsonl", '{"tokens": 1}\n', "line 1, predicted_output_tokens: is missing"),
        (
            "a.jsonl",
            '{"predicted_output_tokens": true}\n',
            "line 1, predicted_output_tokens: True is not a number",
        ),
        (
            "a.jsonl",
            '{"predicted_output_tokens": null}\n',
            "line 1, predicted_output_tokens: None is not a number",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError, match=problem):
        list(read_predictions(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: cannot be read: No such file"):
        list(read_predictions(tmp_path / "none.csv"))


@pytest.mark.parametrize("factor", [1.0, 3.0, 9.0])
def test_predictions_stay_with_their_requests_when_rates_are_scaled(tmp_path: Path, factor: float) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    workload = Cut(
        RateScaled(Predicted([request.at(request.arrival_s) for request in REQUESTS], path), factor, 1), 12
    )
    assert workload.request_count() == len(found := list(workload))
    assert {request.expected_output_tokens - request.output_tokens for request in found} == {90}


@pytest.mark.parametrize(
    ("lines", "counted", "read"), [(5, "holds 5", "ends after 5"), (7, "holds 7", "goes on after")]
)
def test_numbers_of_lines_and_requests_agree(tmp_path: Path, lines: int, counted: str, read: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("predicted_output_tokens\n" + "5\n" * lines)
    with pytest.raises(TraceError, match=counted):
        Predicted(REQUESTS, path).request_count()
    with pytest.raises(TraceError, match=read):
        list(Predicted(REQUESTS, path))
