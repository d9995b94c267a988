"""Measured iterations as a CSV file that people can write and read.

    chunk_tokens,context_before,prefill_chunks,decode_sequences,decode_context,time_ms

`prefill_chunks` prompts, of each `chunk_tokens` computed after `context_before`; `decode_sequences` sequences with a
context of `decode_context` tokens each; what does not occur is 0.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise PointsError(
                f"{path}, line 1: no column {', '.join(missing)}; it takes {', '.join(COLUMNS)}"
            )
        return [_point(path, number, row) for number, row in enumerate(reader, start=2)]


def _point(path: Path, line: int, row: dict[str, str]) -> Point:
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


def _count(path: Path, line: int, column: str, text: str) -> int:
    try:
        count = int(text)
    except (TypeError, ValueError):
        count = -1
    if count < 0:
        raise PointsError(f"{path}, line {line}, {column}: {text!r} is no whole number of at least 0")
    return count
