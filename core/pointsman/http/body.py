"""Chunked request bodies, strictly (RFC 9112, 7.1)."""

import re
from enum import Enum, auto

from pointsman.http.errors import BadRequestError

MAX_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 16 * 1024
FREE_CHUNKS = 1024
LEAST_CHUNK_BYTES = 16
"""Mean size of chunks once there are more than FREE_CHUNKS: a body in single bytes costs us more than its sender."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")


class _Expect(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkedBody:
    """Collects one body, fed in pieces of any size.

    Extensions and trailers are checked and dropped. Every line ends with CRLF: what accepts a lone LF here reads
    other requests than its neighbours do.
    """

    __slots__ = ("_chunks", "_expect", "_left", "_line", "_max_bytes", "_trailer_bytes", "body")

    def __init__(self, max_bytes: int) -> None:
        self.body = bytearray()
        self._max_bytes = max_bytes
        self._expect = _Expect.SIZE
        self._chunks = 0
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes | None:
        """None while the body goes on; else what follows it. Raises BadRequestError."""
        at = 0
        while at < len(data):
            if self._expect is _Expect.DATA:
                taken = data[at : at + self._left]
                self.body += taken
                at += len(taken)
                self._left -= len(taken)
                if not self._left:
                    self._expect = _Expect.DATA_END
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                if len(self._line) > MAX_LINE_BYTES:
                    raise BadRequestError(400, "a chunk's line is too long")
                return None
            line = self._line + data[at:end]
            self._line = b""
            at = end + 1
            if line[-1:] != b"\r" or len(line) > MAX_LINE_BYTES:
                raise BadRequestError(400, "a chunk's line is too long or does not end with CRLF")
            if self._ends_with(line[:-1]):
                return data[at:]
        return None

    def _ends_with(self, line: bytes) -> bool:
        """Take a line of the framing; whether it was the last."""
        if self._expect is _Expect.SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise BadRequestError(400, "a chunk does not begin with its size")
            self._left = int(match[1], 16)
            self._chunks += 1
            if self._chunks > FREE_CHUNKS and len(self.body) < self._chunks * LEAST_CHUNK_BYTES:
                raise BadRequestError(400, "the body comes in too many too small chunks")
            if len(self.body) + self._left > self._max_bytes:
                raise BadRequestError(413, f"the body is larger than {self._max_bytes} bytes")
            self._expect = _Expect.DATA if self._left else _Expect.TRAILER
        elif self._expect is _Expect.DATA_END:
            if line:
                raise BadRequestError(400, "a chunk is longer than its size says")
            self._expect = _Expect.SIZE
        elif line:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise BadRequestError(431, f"trailers of more than {MAX_TRAILER_BYTES} bytes")
            if not _TRAILER.fullmatch(line):
                raise BadRequestError(400, "a trailer is not a header")
        else:
            return True
        return False
