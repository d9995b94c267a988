"""Prefix blocks that running requests hold, per slot: those that several of them share lie in memory once."""

from array import array
from collections.abc import Sequence

from pointsman.core.slots import PerSlot, longer


class BlocksInUse:
    """The blocks held on each slot, and how often again those that are held more than once, which are few."""

    __slots__ = ("_again", "_held", "_roots", "repeats")

    def __init__(self, slots: int) -> None:
        self.repeats: PerSlot = array("q", bytes(8 * slots))
        """Per slot, how many blocks its running requests hold that another of them holds already."""
        self._held: list[set[int]] = [set() for _ in range(slots)]
        self._again: list[dict[int, int]] = [{} for _ in range(slots)]
        self._roots: dict[int, dict[int, int]] = {}
        """Requests by the first block of their chain and slot: who shares anything shares that."""

    def add(self, slot: int, hashes: Sequence[int]) -> None:
        """A request with this prefix runs on `slot`."""
        if not hashes:
            return
        held = self._held[slot]
        repeated = held.intersection(hashes)
        if repeated:
            again = self._again[slot]
            for block in repeated:
                again[block] = again.get(block, 0) + 1
            self.repeats[slot] += len(repeated)
        held.update(hashes)
        on_slots = self._roots.setdefault(hashes[0], {})
        on_slots[slot] = on_slots.get(slot, 0) + 1

    def remove(self, slot: int, hashes: Sequence[int]) -> None:
        """One that was added has ended."""
        if not hashes:
            return
        held, again = self._held[slot], self._again[slot]
        repeated = again.keys() & hashes if again else ()
        if repeated:
            for block in repeated:
                if again[block] == 1:
                    del again[block]
                else:
                    again[block] -= 1
            self.repeats[slot] -= len(repeated)
            held.difference_update([block for block in hashes if block not in repeated])
        else:
            held.difference_update(hashes)
        on_slots = self._roots[hashes[0]]
        on_slots[slot] -= 1
        if not on_slots[slot]:
            del on_slots[slot]
            if not on_slots:
                del self._roots[hashes[0]]

    def depths(self, hashes: Sequence[int], among: int) -> dict[int, int]:
        """How many leading blocks of a prompt are in use on each slot of the bit set `among`, where it is more than none."""
        found: dict[int, int] = {}
        for slot in self._roots.get(hashes[0], ()) if hashes else ():
            if among >> slot & 1:
                held = self._held[slot]
                depth = 1
                while depth < len(hashes) and hashes[depth] in held:
                    depth += 1
                found[slot] = depth
        return found

    def grow(self, slots: int) -> None:
        self.repeats = longer(self.repeats, slots)
        more = slots - len(self._held)
        self._held += [set() for _ in range(more)]
        self._again += [{} for _ in range(more)]
