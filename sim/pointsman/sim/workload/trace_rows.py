"""Lines of a trace as requests, checked field by field."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest

REQUIRED = ("timestamp_s", "prompt_tokens", "output_tokens")
OPTIONAL = ("session_id", "program_id", "tenant", "priority", "prompt")
MOST_TOKENS = 10_000_000
MOST_HASH_ID = 2**63 - 1
_PLAIN_DIGITS = 7
"""Numbers of so many digits are below MOST_TOKENS."""


class TraceError(ValueError):
    """A trace that cannot be read: says the file, the line, the field and what is allowed."""

    def __init__(self, path: Path, line: int | None, field: str | None, problem: str) -> None:
        where = f"{path}" + (f", line {line}" if line else "") + (f", {field}" if field else "")
        super().__init__(f"{where}: {problem}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line's values, as text (CSV) or as JSON values, checked as they are taken."""

    path: Path
    line: int
    row: Mapping[str, Any]

    def refuse(self, field: str, problem: str) -> None:
        raise TraceError(self.path, self.line, field, problem)

    def request(self) -> TraceRequest:
        timestamp_s = self.timestamp_s()
        prompt_tokens = self.whole("prompt_tokens", 1, MOST_TOKENS)
        return TraceRequest(
            timestamp_s,
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
        raise TraceError(self.path, self.line, "timestamp_s", f"{shown(value)} is not a number of seconds")

    def whole(self, field: str, least: int, most: int, absent: int | None = None) -> int:
        value = self.row.get(field, "")
        if absent is not None and value in ("", None):
            return absent
        number = _whole(value)
        if number is None or not least <= number <= most:
            self.refuse(field, f"{shown(value)} is not a whole number from {least} to {most}")
        return cast("int", number)

    def text(self, field: str) -> str:
        value = self.row.get(field)
        if value is None:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            self.refuse(field, f"{shown(value)} is not text")
        return cast("str", value)

    def hash_ids(self, prompt_tokens: int) -> tuple[int, ...]:
        value = self.row.get("hash_ids") or ()
        listed = value.split() if isinstance(value, str) else value
        ids = tuple(_whole(item) for item in listed) if isinstance(listed, list | tuple) else (None,)
        if any(hash_id is None or not 0 <= hash_id <= MOST_HASH_ID for hash_id in ids):
            self.refuse(
                "hash_ids", f"{shown(value)} is not a list of whole numbers, separated by spaces in CSV"
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


def shown(value: object) -> str:
    """A value as messages quote it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers. Raises TraceError where the file cannot be read."""
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(path, number + 1 if number else None, None, f"cannot be read: {problem}") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The same as text. Raises TraceError."""
    for number, line in raw_lines(path):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8: {error.reason} at byte {error.start}"
            raise TraceError(path, number, None, problem) from error


def csv_rows(path: Path, required: Sequence[str]) -> Iterator[Row]:
    """Of a small CSV file with a header that names these columns; none of an empty one. Raises TraceError."""
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        for column in required:
            if column not in header:
                raise TraceError(path, 1, column, f"is not among the columns {', '.join(header)}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                problem = f"has {len(values)} fields where the header names {len(header)}"
                raise TraceError(path, reader.line_num, None, problem)
            yield Row(path, reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise TraceError(path, reader.line_num, None, f"is not CSV: {error}") from error


def _opened(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def jsonl_requests(path: Path) -> Iterator[tuple[int, TraceRequest]]:
    """Line numbers and requests, their timestamps as arrival times. Raises TraceError."""
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise TraceError(path, number, None, f"is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise TraceError(path, number, None, f"{shown(values)} is not a JSON object")
        missing = [field for field in REQUIRED if field not in values]
        if missing:
            raise TraceError(path, number, missing[0], "is missing")
        yield number, Row(path, number, values).request()


def csv_requests(path: Path) -> Iterator[tuple[int, TraceRequest]]:
    """Line numbers and requests, their timestamps as arrival times. Raises TraceError."""
    try:
        with io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            try:
                yield from _csv_requests(path, reader)
            except csv.Error as error:
                hint = "; give long prompts as JSONL" if "limit" in str(error) else ""
                raise TraceError(path, reader.line_num, None, f"is not CSV: {error}{hint}") from error
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        for _ in text_lines(path):  # finds the line and raises
            pass
        raise TraceError(path, None, None, f"cannot be read: {error}") from error


def _csv_requests(path: Path, reader: Any) -> Iterator[tuple[int, TraceRequest]]:
    header: list[str] | None = next(reader, None)
    if header is None:
        return
    missing = [field for field in REQUIRED if field not in header]
    if missing:
        raise TraceError(path, 1, missing[0], f"is not among the columns {', '.join(header)}")
    timestamp, prompt, output = (header.index(field) for field in REQUIRED)
    hashes = header.index("hash_ids") if "hash_ids" in header else -1
    simple = not any(field in header for field in OPTIONAL)
    width = len(header)
    for values in reader:
        if not values:
            continue
        line: int = reader.line_num
        if len(values) != width:
            raise TraceError(path, line, None, f"has {len(values)} fields where the header names {width}")
        request = None
        if simple:
            ids: str = values[hashes] if hashes >= 0 else ""
            request = plain_request(values[timestamp], values[prompt], values[output], ids)
        if request is None:  # something is there to be said, or to be read with care
            request = Row(path, line, dict(zip(header, values, strict=True))).request()
        yield line, request


def plain_request(timestamp: str, prompt: str, output: str, hash_ids: str) -> TraceRequest | None:
    """A request from fields that are as they nearly always are, or None."""
    if not (prompt.isascii() and prompt.isdigit() and output.isascii() and output.isdigit()):
        return None
    if len(prompt) > _PLAIN_DIGITS or len(output) > _PLAIN_DIGITS:
        return None
    prompt_tokens, output_tokens = int(prompt), int(output)
    ids: tuple[int, ...] = ()
    if hash_ids:
        if not (hash_ids.isascii() and hash_ids.replace(" ", "").isdigit()):
            return None
        ids = tuple([int(hash_id) for hash_id in hash_ids.split()])
        if max(ids) > MOST_HASH_ID or len(ids) > -(-prompt_tokens // HASH_BLOCK_TOKENS):
            return None
    try:
        arrival_s = float(timestamp)
    except ValueError:
        return None
    if not prompt_tokens or not output_tokens or not math.isfinite(arrival_s):
        return None
    return TraceRequest(arrival_s, prompt_tokens, output_tokens, ids)
