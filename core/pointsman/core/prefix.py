"""Which instance holds which prompt prefix, as far as placements tell.

Prompts are chains of block hashes, each covering everything before it, so an equal hash means an equal prefix.
The index is an approximation of the engines' caches (they evict on their own), as SGLang's router keeps one: old
blocks go first, per instance, once it holds more than its KV capacity could.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pointsman.core.slots import Levels, PerSlot, longer, members, zeros


class Match(NamedTuple):
    """The longest prefix of a prompt that any instance holds."""

    blocks: int
    holders: int
    """Bit i is set when the instance in slot i holds all `blocks` blocks."""


NO_MATCH = Match(0, 0)


def levels(holders: Mapping[int, int], hashes: Sequence[int], among: int) -> Levels:
    """How many leading blocks of a prompt the slots of the bit set `among` hold.

    `holders`: bit sets of slots by block. One walk down the chain for all slots, however many they are.
    """
    found: Levels = []
    depth, mask = 0, among
    for block in hashes:
        left = mask & holders.get(block, 0)
        if left != mask and depth:
            found.append((depth, members(mask ^ left)))
        mask = left
        if not mask:
            return found
        depth += 1
    if depth:
        found.append((depth, members(mask)))
    return found


EVERYONE = -1
"""All slots, as a bit set."""

EVICTED_PER_BLOCK = 4
"""Most blocks evicted per inserted one."""
PUT_BACK_PER_BLOCK = 64
"""Most blocks put back per evicted one."""


class PrefixIndex:
    """Block hash -> the slots that hold it, with eviction per slot.

    Each slot's blocks stand in a queue; what is asked for again while it stands there is put back once instead of
    dropped (CLOCK, or FIFO with reinsertion: Corbato 1968), which comes close to least recently used without a linked
    list's 100 bytes per block. A block takes about 150 bytes with one holder, 8 more with each other.
    """

    __slots__ = ("_again", "_bits", "_holders", "_queues", "sizes")

    def __init__(self, slots: int) -> None:
        self.sizes: PerSlot = zeros(slots)
        """Blocks each slot holds."""
        self._holders: dict[int, int] = {}
        self._bits = [1 << slot for slot in range(slots)]  # one object each, instead of one per block
        self._queues: dict[int, deque[int]] = {}
        self._again: dict[int, set[int]] = {}
        """Blocks asked for again since they were queued, by slot."""

    def insert(self, slot: int, hashes: Sequence[int], capacity_blocks: int) -> None:
        """Note that `slot` computes this prefix now, and forget its oldest blocks beyond `capacity_blocks`."""
        if not hashes:
            return
        holders = self._holders
        queue = self._queues.get(slot)
        if queue is None:
            queue = self._queues[slot] = deque()
            self._again[slot] = set()
        again = self._again[slot]
        bit = self._bits[slot]
        # Deepest first, so that eviction takes a chain's tail before its head.
        for block in reversed(hashes):
            held = holders.get(block)
            if held is None:
                holders[block] = bit
            elif held & bit:
                again.add(block)
                continue
            else:
                holders[block] = held | bit
            queue.append(block)
        excess = len(queue) - capacity_blocks
        if excess > 0:
            # A capacity that shrank is reached step by step: no single request pays for it.
            self._evict(slot, min(excess, EVICTED_PER_BLOCK * len(hashes)))
        self.sizes[slot] = len(queue)

    def _evict(self, slot: int, blocks: int) -> None:
        queue, again, bit = self._queues[slot], self._again[slot], self._bits[slot]
        patience = PUT_BACK_PER_BLOCK * blocks
        while blocks:
            block = queue.popleft()
            if block in again:
                again.discard(block)
                if patience:
                    patience -= 1
                    queue.append(block)
                    continue
            self._drop(block, bit)
            blocks -= 1

    def grow(self, slots: int) -> None:
        self.sizes = longer(self.sizes, slots)
        self._bits += [1 << slot for slot in range(len(self._bits), slots)]

    def forget(self, slot: int) -> None:
        """The instance in `slot` is gone, and its cache with it."""
        for block in self._queues.pop(slot, ()):
            self._drop(block, self._bits[slot])
        self._again.pop(slot, None)
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
        holders, bit = self._holders, self._bits[slot]
        for depth, block in enumerate(hashes):
            if not holders.get(block, 0) & bit:
                return depth
        return len(hashes)

    def levels(self, hashes: Sequence[int], among: int) -> Levels:
        """How many leading blocks of a prompt the slots of the bit set `among` hold."""
        return levels(self._holders, hashes, among)

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]
