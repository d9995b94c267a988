"""Sets of instances by slot, and one integer per slot.

For few instances a Python loop beats numpy, whose every call costs about a microsecond; for many it is the other way
round. Values live in a `vec` of mypyc's: compiled, its items are C integers in C memory, and numpy can look at the same
memory. Items of an `array` are made into Python's integers and back at every look.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from librt.vecs import vec
from mypy_extensions import i64
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
PerSlot: TypeAlias = "vec[i64]"
"""One 64-bit integer per slot."""

Levels: TypeAlias = list[tuple[int, list[int]]]
"""Numbers of leading blocks of a prompt, and the slots that have as many and no more. Who has none is in none of them."""

FEW = 64
"""Up to so many instances are looped over."""


def vector(values: PerSlot) -> IntArray:
    """The same memory as a numpy vector. Keep it no longer than a decision: `values` may be replaced by a longer one."""
    return np.frombuffer(memoryview(values), np.int64)


def zeros(slots: int) -> PerSlot:
    return vec[i64]([0] * slots)


def longer(values: PerSlot, slots: int) -> PerSlot:
    """A copy with zeros up to `slots`."""
    longer = zeros(slots)
    for slot in range(len(values)):
        longer[slot] = values[slot]
    return longer


class Slots:
    """Some instances, as a list, as a numpy vector and as a bit set, each made when first asked for."""

    __slots__ = ("_bits", "_vector", "listed")

    def __init__(self, listed: list[int]) -> None:
        self.listed = listed
        self._vector: IntArray | None = None
        self._bits: int | None = None

    def __len__(self) -> int:
        return len(self.listed)

    @property
    def few(self) -> bool:
        return len(self.listed) <= FEW

    @property
    def vector(self) -> IntArray:
        found = self._vector
        if found is None:
            found = self._vector = np.array(self.listed, np.int64)
        return found

    @property
    def bits(self) -> int:
        """An integer with the slots' bits set."""
        found = self._bits
        if found is None:
            found = self._bits = bit_set(self.listed)
        return found

    def within(self, bits: int) -> "Slots":
        """Those whose bit is set."""
        if self.few:
            return Slots([slot for slot in self.listed if bits >> slot & 1])
        if not bits & (bits - 1):
            slot = bits.bit_length() - 1
            return Slots([slot] if bits & self.bits else [])
        size = max(max(self.listed) // 8 + 1, (bits.bit_length() + 7) // 8)
        flags = np.unpackbits(np.frombuffer(bits.to_bytes(size, "little"), np.uint8), bitorder="little")
        chosen: list[int] = self.vector[flags[self.vector].astype(np.bool_)].tolist()
        return Slots(chosen)


def bit_set(slots: Sequence[int]) -> int:
    bits = 0
    for slot in slots:
        bits |= 1 << slot
    return bits


def members(bits: int) -> list[int]:
    """The slots of a bit set, in order."""
    if bits.bit_count() > FEW:
        flags = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), np.uint8)
        found: list[int] = np.flatnonzero(np.unpackbits(flags, bitorder="little")).tolist()
        return found
    few: list[int] = []
    while bits:
        lowest = bits & -bits
        few.append(lowest.bit_length() - 1)
        bits ^= lowest
    return few
