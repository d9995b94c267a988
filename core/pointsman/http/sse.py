"""Server-sent events: where one ends in a stream of bytes that is cut anywhere.

An event ends with an empty line; a line ends with LF, CRLF or CR (WHATWG HTML, "Server-sent events", 9.2.5).
Events are handed out as the bytes they came in, so that a relay passes them on unchanged.
"""

import re

DONE = b"[DONE]"
MAX_EVENT_BYTES = 1 << 20

# A CR at the very end may be the first half of a CRLF: it ends a line only once the next byte is known.
_LINE_END = rb"(?:\r\n|\n|\r(?=[^\n]))"
_EVENT_END = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4


class EventTooLongError(Exception):
    """An event grew beyond the limit without ending."""


class EventScanner:
    """Cuts a byte stream into events. Holds at most one incomplete event of `limit` bytes."""

    __slots__ = ("_limit", "_rest", "_scanned")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its empty line. Raises EventTooLongError."""
        # Engines end lines with LF alone. (`in` would try its argument as a number first, and take three times as long.)
        if self._rest or data.find(b"\r") >= 0 or len(data) > self._limit:
            return self._scan(data)
        end = data.find(b"\n\n") + 2
        if end == len(data) and end > 1:
            return [data]
        pieces = data.split(b"\n\n")
        self._rest += pieces.pop()
        self._scanned = len(self._rest)
        return [piece + b"\n\n" for piece in pieces]

    def _scan(self, data: bytes) -> list[bytes]:
        rest = self._rest
        rest += data
        events: list[bytes] = []
        start = 0
        for end in _EVENT_END.finditer(rest, max(0, self._scanned - _LONGEST_END)):
            events.append(bytes(rest[start : end.end()]))
            start = end.end()
        del rest[:start]
        self._scanned = len(rest)
        longest = max(map(len, events), default=0)
        if longest > self._limit or len(rest) > self._limit:
            raise EventTooLongError(f"event of {max(longest, len(rest))} bytes, {self._limit} allowed")
        return events

    @property
    def pending(self) -> int:
        """Bytes of an event that has not ended: not 0 at the end of a stream means that it was cut off."""
        return len(self._rest)

    def take_rest(self) -> bytes:
        """What is left at the end of the stream, an event only where its empty line is a lone CR."""
        rest = bytes(self._rest)
        self._rest.clear()
        self._scanned = 0
        return rest


def event_data(event: bytes) -> bytes | None:
    """The data of an event, its lines joined with LF; None: it has none (a comment, a keep-alive)."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = []
    for line in _LINES.split(event):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
