"""In-memory ends for the protocols, and the ways to cut bytes into reads."""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any
from zlib import crc32


def cuttings(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes in one read, byte by byte, and in a few pieces that depend on the bytes alone."""
    yield [data] if data else []
    yield [data[at : at + 1] for at in range(len(data))]
    rng = Random(crc32(data))
    marks = sorted(rng.sample(range(1, len(data)), min(3, len(data) - 1))) if len(data) > 1 else []
    yield [
        data[begin:end] for begin, end in zip([0, *marks], [*marks, len(data)], strict=True) if begin < end
    ]


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.half_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def pause_reading(self) -> None:
        """Whoever feeds goes on: what is read ahead has to be kept in any case."""

    def resume_reading(self) -> None:
        """It never stopped."""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True
