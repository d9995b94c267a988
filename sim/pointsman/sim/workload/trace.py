"""Traces on disk: CSV or JSONL, plain or gzipped, one request a line, never held in memory.

Columns: `timestamp_s`, `prompt_tokens`, `output_tokens` and, where known, `hash_ids`, `session_id`, `program_id`,
`tenant`, `priority`, `prompt`. Others are ignored. Lines are in order of time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.trace_rows import TraceError, csv_requests, jsonl_requests, raw_lines

__all__ = ["TraceError", "TraceFile"]

FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace on disk; iterating reads it from its beginning. Raises TraceError where it is not as it should be."""

    path: Path
    longest_context_tokens: int = 0
    """Prompt and answer of a request may not be longer together. 0: they may."""

    def __iter__(self) -> Iterator[TraceRequest]:
        start_s, previous_s = 0.0, -math.inf
        requests = csv_requests(self.path) if self._format() == ".csv" else jsonl_requests(self.path)
        line = 0
        for line, request in requests:
            timestamp_s = request.arrival_s
            if previous_s == -math.inf:
                start_s = timestamp_s
            elif timestamp_s < previous_s:
                problem = f"{timestamp_s} comes after {previous_s}; sort the trace by time"
                raise TraceError(self.path, line, "timestamp_s", problem)
            previous_s = timestamp_s
            request.arrival_s = timestamp_s - start_s
            if 0 < self.longest_context_tokens < request.prompt_tokens + request.output_tokens:
                raise TraceError(
                    self.path,
                    line,
                    "prompt_tokens",
                    f"{request.prompt_tokens} and {request.output_tokens} output tokens exceed the "
                    f"{self.longest_context_tokens} that the largest KV cache holds",
                )
            yield request
        if not line:
            raise TraceError(self.path, None, None, "holds no requests")

    def request_count(self) -> int:
        """Requests in the file, found without reading their fields where lines can be told apart without that."""
        header = self._format() == ".csv"
        lines = 0
        for _, line in raw_lines(self.path):
            if header and b'"' in line:  # a field may go over several lines
                return sum(1 for _ in self)
            lines += not line.isspace()
        return max(0, lines - header)

    def _format(self) -> str:
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes.pop()
        if not suffixes or suffixes[-1] not in FORMATS:
            raise TraceError(
                self.path, None, None, "is no trace by its name; allowed: .csv, .jsonl, either with .gz"
            )
        return suffixes[-1]
