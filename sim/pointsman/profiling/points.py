"""Measured iterations as a CSV file that people can write and read.

    chunk_tokens,context_before,prefill_chunks,decode_sequences,decode_context,time_ms

`prefill_chunks` prompts, of each `chunk_tokens` computed after `context_before`; `decode_sequences` sequences with a
context of `decode_context` tokens each; what does not occur is 0.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pointsman.api.fitting import Point

COLUMNS = (
    "chunk_tokens",
    "context_before",
    "prefill_chunks",
    "decode_sequences",
    "decode_context",
    "time_ms",
)


class PointsError(ValueError):
    """A file of points is not as it should be; the message names file, line and field."""


class Measured(NamedTuple):
    """One line: an iteration as it was asked for."""

    chunk_tokens: int
    context_before: int
    prefill_chunks: int
    decode_sequences: int
    decode_context: int
    time_ms: float

    def point(self) -> Point:
        return Point(
            self.prefill_chunks * self.chunk_tokens,
            self.prefill_chunks * self.chunk_tokens * (2 * self.context_before + self.chunk_tokens),
            self.decode_sequences,
            self.decode_sequences * self.decode_context,
            self.time_ms,
            max(1, self.prefill_chunks),
        )


def write_points(path: Path, points: Sequence[Measured]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((*point[:-1], f"{point.time_ms:.6g}") for point in points)


def read_points(path: Path) -> list[Point]:
    """Raises PointsError and OSError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            return [_point(path, reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise PointsError(f"{path}: not UTF-8 text, so no CSV file of points") from error
    except csv.Error as error:
        raise PointsError(f"{path}: no CSV file of points: {error}") from error


def _check_columns(path: Path, given: Sequence[str]) -> None:
    missing = [column for column in COLUMNS if column not in given]
    unknown = [repr(column) for column in given if column not in COLUMNS]
    if missing or unknown:
        faults = [f"no column {', '.join(missing)}"] if missing else []
        faults += [f"unknown column {', '.join(unknown)}"] if unknown else []
        raise PointsError(f"{path}, line 1: {'; '.join(faults)}; it takes {', '.join(COLUMNS)}")


def _point(path: Path, line: int, row: Mapping[str | None, Any]) -> Point:
    if None in row:
        raise PointsError(f"{path}, line {line}: more fields than the {len(COLUMNS)} columns")
    chunk, before, chunks, sequences, context = (
        _count(path, line, column, row[column]) for column in COLUMNS[:-1]
    )
    try:
        time_ms = float(row["time_ms"])
    except (TypeError, ValueError):
        time_ms = -1.0
    if not 0 < time_ms < float("inf"):
        raise PointsError(f"{path}, line {line}, time_ms: {row['time_ms']!r} is no time above 0")
    measured = Measured(chunk, before, chunks, sequences, context, time_ms)
    if not measured.prefill_chunks * measured.chunk_tokens and not measured.decode_sequences:
        raise PointsError(f"{path}, line {line}: an iteration that computes nothing")
    return measured.point()


def _count(path: Path, line: int, column: str, text: str | None) -> int:
    try:
        count = -1 if text is None else int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise PointsError(f"{path}, line {line}, {column}: {text!r} is no whole number of at least 0")
    return count
