"""Answer lengths that somebody's model predicted, read beside the workload they are about.

CSV or JSONL, plain or gzipped: one line a request, in the order of the workload before it is scaled or cut, with
`predicted_output_tokens` and, where it is given, `index`, the request's place from 0, which is held against the line's own.
Neither file is held in memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pointsman.sim.workload.request import TraceRequest, Workload, count_requests
from pointsman.sim.workload.trace_rows import MOST_TOKENS, Row, TraceError, csv_rows, shown, text_lines

SUFFIXES = (".csv", ".jsonl", ".csv.gz", ".jsonl.gz")
TOKENS = "predicted_output_tokens"
INDEX = "index"


def is_predictions(name: str) -> bool:
    """Whether a predictor's name is that of a file."""
    return name.lower().endswith(SUFFIXES)


@dataclass(frozen=True, slots=True)
class Predicted:
    """A workload whose requests carry the predictions of a file. Iterating raises TraceError where they do not match."""

    source: Workload
    path: Path

    def __iter__(self) -> Iterator[TraceRequest]:
        predictions = read_predictions(self.path)
        number = -1
        for number, request in enumerate(self.source):
            tokens = next(predictions, None)
            if tokens is None:
                raise TraceError(
                    self.path, None, TOKENS, f"ends after {number} requests; the workload has more"
                )
            request.expected_output_tokens = tokens
            yield request
        if next(predictions, None) is not None:
            raise TraceError(self.path, None, TOKENS, f"goes on after the workload's {number + 1} requests")

    def request_count(self) -> int:
        """Reads the whole file of predictions, so that what is wrong with it is said before anything runs."""
        requests = count_requests(self.source)
        predictions = sum(1 for _ in read_predictions(self.path))
        if predictions != requests:
            problem = f"holds {predictions} predictions; the workload has {requests} requests"
            raise TraceError(self.path, None, TOKENS, problem)
        return requests


def read_predictions(path: Path) -> Iterator[int]:
    """Tokens, request by request; 0: not known. Raises TraceError."""
    rows = (
        csv_rows(path, (TOKENS,))
        if path.name.lower().removesuffix(".gz").endswith(".csv")
        else _jsonl_rows(path)
    )
    for place, row in enumerate(rows):
        index = row.whole(INDEX, 0, 2**63 - 1, absent=place)
        if index != place:
            row.refuse(INDEX, f"{index} where request {place} of the workload is due")
        yield _tokens(row)


def _tokens(row: Row) -> int:
    """A length model may say fractions; what it says of an answer is at least a token."""
    value = row.row.get(TOKENS, "")
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not 0 <= number <= MOST_TOKENS:
        row.refuse(TOKENS, f"{shown(value)} is not a number from 0 (not known) to {MOST_TOKENS}")
    return max(1, round(number)) if number else 0


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            values: Any = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise TraceError(path, number, None, f"is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise TraceError(path, number, None, f"{shown(values)} is not a JSON object")
        if TOKENS not in values:
            raise TraceError(path, number, TOKENS, "is missing")
        yield Row(path, number, values)
