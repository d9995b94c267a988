"""Unguessable ids, cheaply: the kernel is asked for many random bytes at once."""

import os

_BATCH = 4096
_ID_BYTES = 16


class Ids:
    """Ids of attempts and rooms. Who can guess one could make an engine hand KV to a stranger."""

    __slots__ = ("_at", "_random")

    def __init__(self) -> None:
        self._random = b""
        self._at = 0

    def attempt(self) -> str:
        """128 random bits in hex."""
        return self._take(_ID_BYTES).hex()

    def room(self) -> int:
        """63 random bits."""
        return int.from_bytes(self._take(8), "big") >> 1

    def _take(self, count: int) -> bytes:
        at = self._at
        if at + count > len(self._random):
            self._random, at = os.urandom(_BATCH), 0
        self._at = at + count
        return self._random[at : at + count]
