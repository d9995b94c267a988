"""Prefix blocks that running requests hold, per slot: those that several of them share lie in memory once."""

from collections.abc import Sequence

from pointsman.core.prefix import levels
from pointsman.core.slots import Levels, PerSlot, longer, zeros


class BlocksInUse:
    """The slots that hold each block, and how often again those that a slot holds more than once, which are few."""

    __slots__ = ("_again", "_bits", "_holders", "repeats")

    def __init__(self, slots: int) -> None:
        self.repeats: PerSlot = zeros(slots)
        """Per slot, how many blocks its running requests hold that another of them holds already."""
        self._holders: dict[int, int] = {}
        self._bits = [1 << slot for slot in range(slots)]
        self._again: list[dict[int, int]] = [{} for _ in range(slots)]

    def add(self, slot: int, hashes: Sequence[int]) -> None:
        """A request with this prefix runs on `slot`."""
        holders, bit, again = self._holders, self._bits[slot], self._again[slot]
        repeated = 0
        for block in hashes:
            held = holders.get(block, 0)
            if held & bit:
                again[block] = again.get(block, 0) + 1
                repeated += 1
            else:
                holders[block] = held | bit
        self.repeats[slot] += repeated

    def remove(self, slot: int, hashes: Sequence[int]) -> None:
        """One that was added has ended."""
        holders, bit, again = self._holders, self._bits[slot], self._again[slot]
        repeated = 0
        for block in hashes:
            others = again.get(block, 0)
            if others:
                repeated += 1
                if others == 1:
                    del again[block]
                else:
                    again[block] = others - 1
            else:
                left = holders[block] ^ bit
                if left:
                    holders[block] = left
                else:
                    del holders[block]
        self.repeats[slot] -= repeated

    def levels(self, hashes: Sequence[int], among: int) -> Levels:
        """How many leading blocks of a prompt are in use on the slots of the bit set `among`."""
        return levels(self._holders, hashes, among)

    def grow(self, slots: int) -> None:
        self.repeats = longer(self.repeats, slots)
        self._bits += [1 << slot for slot in range(len(self._bits), slots)]
        self._again += [{} for _ in range(len(self._again), slots)]
