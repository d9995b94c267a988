"""KV blocks: a hard capacity, references, and an LRU prefix cache over content hashes.

The behaviour is that of vLLM V1's block pool: freed blocks join the tail of one queue, a request's last block
first; allocation takes from the head and evicts what is cached there; a hit takes its block out of the queue.
Blocks without a hash are interchangeable, so they are counted instead of numbered. One deviation: a block whose
content is cached already (computed twice at the same time) is not remembered a second time.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class BlockTable:
    """The blocks of one request, in order: cached ones by hash, then `plain` others."""

    hashes: list[int | None] = field(default_factory=list)
    """One entry per full block: its hash, or None for one that is not in the cache."""
    plain: int = 0
    """Blocks that are not full yet, or can't be cached."""

    def __len__(self) -> int:
        return len(self.hashes) + self.plain


class BlockPool:
    """All KV blocks of an engine."""

    __slots__ = ("_next_run", "_queue", "_references", "available", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.available = total
        """Blocks that can be allocated now, by eviction if need be."""
        # Free blocks in eviction order. Key >= 0: a cached block, by hash. Key < 0: a run of plain blocks.
        self._queue: OrderedDict[int, int] = OrderedDict({-1: total})
        self._next_run = -2
        self._references: dict[int, int] = {}

    @property
    def used(self) -> int:
        return self.total - self.available

    @property
    def cached(self) -> int:
        """Distinct blocks in the prefix cache."""
        return len(self._references)

    def match(self, block_hash: Callable[[int], int], limit: int) -> list[int]:
        """Hashes of the longest cached prefix, at most `limit` blocks."""
        found: list[int] = []
        for index in range(limit):
            block = block_hash(index)
            if block not in self._references:
                break
            found.append(block)
        return found

    def admit(self, table: BlockTable, cached: list[int], more: int) -> bool:
        """Give an empty table a cached prefix and `more` new blocks; all or nothing."""
        queued = sum(1 for block in cached if self._references[block] == 0)
        if queued + more > self.available:
            return False
        for block in cached:
            if self._references[block] == 0:
                del self._queue[block]
                self.available -= 1
            self._references[block] += 1
        table.hashes.extend(cached)
        return self.extend(table, more)

    def extend(self, table: BlockTable, more: int) -> bool:
        """Add `more` new blocks; all or nothing."""
        if more > self.available:
            return False
        self.available -= more
        table.plain += more
        while more:
            key, count = self._queue.popitem(last=False)
            if key >= 0:
                del self._references[key]
                more -= 1
            elif count <= more:
                more -= count
            else:
                self._queue[key] = count - more
                self._queue.move_to_end(key, last=False)
                more = 0
        return True

    def fill(self, table: BlockTable, full_blocks: int, block_hash: Callable[[int], int]) -> None:
        """Note that the first `full_blocks` blocks of the table are full, so that others may find them."""
        while len(table.hashes) < full_blocks:
            block = block_hash(len(table.hashes))
            table.plain -= 1
            if block in self._references:
                table.hashes.append(None)
            else:
                self._references[block] = 1
                table.hashes.append(block)

    def free(self, table: BlockTable) -> None:
        """Give all blocks back, the last one first: a chain's tail is evicted before its head."""
        run = table.plain
        for block in reversed(table.hashes):
            if block is None:
                run += 1
                continue
            self._references[block] -= 1
            if self._references[block] == 0:
                self._put(run)
                run = 0
                self._queue[block] = 1
                self.available += 1
        self._put(run)
        table.hashes.clear()
        table.plain = 0

    def clear_cache(self) -> bool:
        """Forget all prefixes. False, and nothing done, while any cached block is in use."""
        if any(self._references.values()):
            return False
        self._references.clear()
        self._queue = OrderedDict({-1: self.available})
        return True

    def _put(self, count: int) -> None:
        if count:
            self._queue[self._next_run] = count
            self._next_run -= 1
            self.available += count
