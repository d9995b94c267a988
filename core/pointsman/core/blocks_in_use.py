"""Prefix blocks that running requests hold, per slot: those that several of them share lie in memory once."""

from array import array
from collections.abc import Sequence

from pointsman.core.prefix import depths
from pointsman.core.slots import PerSlot, longer


class BlocksInUse:
    """How often each block is held on each slot.

    Most are held once, so only slots are kept by block, as a bit set, and a count for those that are held again.
    """

    __slots__ = ("_again", "_users", "repeats")

    def __init__(self, slots: int) -> None:
        self.repeats: PerSlot = array("q", bytes(8 * slots))
        """Per slot, how many blocks its running requests hold that another of them holds already."""
        self._users: dict[int, int] = {}
        self._again: dict[tuple[int, int], int] = {}

    def add(self, slot: int, hashes: Sequence[int]) -> None:
        """A request with this prefix runs on `slot`."""
        users, bit = self._users, 1 << slot
        for block in hashes:
            held = users.get(block, 0)
            if held & bit:
                key = (slot, block)
                self._again[key] = self._again.get(key, 0) + 1
                self.repeats[slot] += 1
            else:
                users[block] = held | bit

    def remove(self, slot: int, hashes: Sequence[int]) -> None:
        """One that was added has ended."""
        again, users = self._again, self._users
        for block in hashes:
            key = (slot, block)
            times = again.get(key, 0)
            if times:
                self.repeats[slot] -= 1
                if times == 1:
                    del again[key]
                else:
                    again[key] = times - 1
                continue
            left = users[block] & ~(1 << slot)
            if left:
                users[block] = left
            else:
                del users[block]

    def depths(self, hashes: Sequence[int], among: int) -> dict[int, int]:
        """How many leading blocks of a prompt are in use on each slot of the bit set `among`, where it is more than none."""
        return depths(self._users, hashes, among)

    def grow(self, slots: int) -> None:
        self.repeats = longer(self.repeats, slots)
