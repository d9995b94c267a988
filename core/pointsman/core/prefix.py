"""Which instance holds which prompt prefix, as far as placements tell.

Prompts are chains of block hashes, each covering everything before it, so an equal hash means an equal prefix.
The index is an approximation of the engines' caches (they evict on their own), as SGLang's router keeps one:
least recently used blocks go first, per instance, once it holds more than its KV capacity could.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.core.slots import PerSlot, longer


class Match(NamedTuple):
    """The longest prefix of a prompt that any instance holds."""

    blocks: int
    holders: int
    """Bit i is set when the instance in slot i holds all `blocks` blocks."""


NO_MATCH = Match(0, 0)


EVERYONE = -1
"""All slots, as a bit set."""


class PrefixIndex:
    """Block hash -> the slots that hold it, with least-recently-used eviction per slot."""

    __slots__ = ("_blocks_of", "_holders", "sizes")

    def __init__(self, slots: int) -> None:
        self.sizes: PerSlot = array("q", bytes(8 * slots))
        """Blocks each slot holds."""
        self._holders: dict[int, int] = {}
        self._blocks_of: dict[int, OrderedDict[int, None]] = {}

    def insert(self, slot: int, hashes: Sequence[int], capacity_blocks: int) -> None:
        """Note that `slot` computes this prefix now, and forget its oldest blocks beyond `capacity_blocks`."""
        if not hashes:
            return
        holders = self._holders
        blocks = self._blocks_of.get(slot)
        if blocks is None:
            blocks = self._blocks_of[slot] = OrderedDict()
        bit = 1 << slot
        # Deepest first, so that eviction takes a chain's tail before its head.
        for block in reversed(hashes):
            if block in blocks:
                blocks.move_to_end(block)
            else:
                blocks[block] = None
                holders[block] = holders.get(block, 0) | bit
        while len(blocks) > capacity_blocks:
            self._drop(blocks.popitem(last=False)[0], bit)
        self.sizes[slot] = len(blocks)

    def grow(self, slots: int) -> None:
        self.sizes = longer(self.sizes, slots)

    def forget(self, slot: int) -> None:
        """The instance in `slot` is gone, and its cache with it."""
        bit = 1 << slot
        for block in self._blocks_of.pop(slot, ()):
            self._drop(block, bit)
        self.sizes[slot] = 0

    def longest(self, hashes: Sequence[int], among: int = EVERYONE) -> Match:
        """The longest prefix held by a slot of the bit set `among`."""
        found, depth = 0, 0
        holders = self._holders
        mask = among
        for block in hashes:
            mask &= holders.get(block, 0)
            if not mask:
                break
            found = mask
            depth += 1
        return Match(depth, found) if depth else NO_MATCH

    def held(self, slot: int, hashes: Sequence[int]) -> int:
        """How many leading blocks of a prompt `slot` holds."""
        blocks = self._blocks_of.get(slot)
        if not blocks:
            return 0
        for depth, block in enumerate(hashes):
            if block not in blocks:
                return depth
        return len(hashes)

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]
