"""Reading traces: CSV or JSONL, plain or gzipped, one request a line, never held in memory.

Columns: `timestamp_s`, `prompt_tokens`, `output_tokens` and, where known, `hash_ids`, `session_id`, `program_id`,
`tenant`, `priority`, `prompt`. Others are ignored. Lines are in order of time.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest

REQUIRED = ("timestamp_s", "prompt_tokens", "output_tokens")
FORMATS = (".csv", ".jsonl")
MOST_TOKENS = 10_000_000
MOST_HASH_ID = 2**63 - 1


class TraceError(ValueError):
    """A trace that cannot be read: says the file, the line, the field and what is allowed."""

    def __init__(self, path: Path, line: int | None, field: str | None, problem: str) -> None:
        where = f"{path}" + (f", line {line}" if line else "") + (f", {field}" if field else "")
        super().__init__(f"{where}: {problem}")


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace on disk; iterating reads it from its beginning. Raises TraceError where it is not as it should be."""

    path: Path
    longest_context_tokens: int = 0
    """Prompt and answer of a request may not be longer together. 0: they may."""

    def __iter__(self) -> Iterator[TraceRequest]:
        rows = _csv_rows(self.path) if self._format() == ".csv" else _jsonl_rows(self.path)
        start_s, previous_s, line = 0.0, -math.inf, None
        for line, row in rows:
            fields = _Fields(self.path, line, row)
            timestamp_s = fields.timestamp_s()
            if line_is_first := previous_s == -math.inf:
                start_s = timestamp_s
            if not line_is_first and timestamp_s < previous_s:
                fields.refuse(
                    "timestamp_s", f"{timestamp_s} comes after {previous_s}; sort the trace by time"
                )
            previous_s = timestamp_s
            request = fields.request(timestamp_s - start_s)
            if 0 < self.longest_context_tokens < request.prompt_tokens + request.output_tokens:
                tokens = f"{request.prompt_tokens} and {request.output_tokens} output tokens"
                fields.refuse(
                    "prompt_tokens",
                    f"{tokens} exceed the {self.longest_context_tokens} that the largest KV cache holds",
                )
            yield request
        if line is None:
            raise TraceError(self.path, None, None, "holds no requests")

    def _format(self) -> str:
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes.pop()
        if not suffixes or suffixes[-1] not in FORMATS:
            raise TraceError(
                self.path, None, None, "is no trace by its name; allowed: .csv, .jsonl, either with .gz"
            )
        return suffixes[-1]


@dataclass(frozen=True, slots=True)
class _Fields:
    """One line's values, as text (CSV) or as JSON values, checked as they are taken."""

    path: Path
    line: int
    row: Mapping[str, Any]

    def refuse(self, field: str, problem: str) -> None:
        raise TraceError(self.path, self.line, field, problem)

    def request(self, arrival_s: float) -> TraceRequest:
        prompt_tokens = self.whole("prompt_tokens", 1, MOST_TOKENS)
        return TraceRequest(
            arrival_s,
            prompt_tokens,
            self.whole("output_tokens", 1, MOST_TOKENS),
            self.hash_ids(prompt_tokens),
            self.text("session_id"),
            self.text("program_id"),
            self.text("tenant"),
            self.whole("priority", -(2**31), 2**31 - 1, absent=0),
            self.text("prompt") or None,
        )

    def timestamp_s(self) -> float:
        value = self.row.get("timestamp_s", "")
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                seconds = float(value)
            except (ValueError, OverflowError):
                seconds = math.nan
            if math.isfinite(seconds):
                return seconds
        raise TraceError(self.path, self.line, "timestamp_s", f"{_shown(value)} is not a number of seconds")

    def whole(self, field: str, least: int, most: int, absent: int | None = None) -> int:
        value = self.row.get(field, "")
        if absent is not None and value in ("", None):
            return absent
        number = _whole(value)
        if number is None or not least <= number <= most:
            self.refuse(field, f"{_shown(value)} is not a whole number from {least} to {most}")
        return cast("int", number)

    def text(self, field: str) -> str:
        value = self.row.get(field)
        if value is None:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            self.refuse(field, f"{_shown(value)} is not text")
        return cast("str", value)

    def hash_ids(self, prompt_tokens: int) -> tuple[int, ...]:
        value = self.row.get("hash_ids") or ()
        listed = value.split() if isinstance(value, str) else value
        ids = tuple(_whole(item) for item in listed) if isinstance(listed, list | tuple) else (None,)
        if any(hash_id is None or not 0 <= hash_id <= MOST_HASH_ID for hash_id in ids):
            self.refuse(
                "hash_ids", f"{_shown(value)} is not a list of whole numbers, separated by spaces in CSV"
            )
        if len(ids) > -(-prompt_tokens // HASH_BLOCK_TOKENS):
            self.refuse(
                "hash_ids", f"{len(ids)} blocks of {HASH_BLOCK_TOKENS} for {prompt_tokens} prompt tokens"
            )
        return cast("tuple[int, ...]", ids)


def _whole(value: object) -> int | None:
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(path, number, None, f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except (OSError, EOFError, zlib.error) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(path, number + 1 if number else None, None, f"cannot be read: {problem}") from error


def _opened(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise TraceError(path, number, None, f"is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TraceError(path, number, None, f"{_shown(row)} is not a JSON object")
        missing = [field for field in REQUIRED if field not in row]
        if missing:
            raise TraceError(path, number, missing[0], "is missing")
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        missing = [field for field in REQUIRED if field not in header]
        if missing:
            raise TraceError(path, 1, missing[0], f"is not among the columns {', '.join(header)}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                problem = f"has {len(values)} fields where the header names {len(header)}"
                raise TraceError(path, reader.line_num, None, problem)
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        hint = "; give long prompts as JSONL" if "limit" in str(error) else ""
        raise TraceError(path, reader.line_num, None, f"is not CSV: {error}{hint}") from error
