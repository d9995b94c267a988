"""KV blocks: a hard capacity, references, and an LRU prefix cache over content hashes.

The behaviour is that of vLLM V1's block pool (0.32): a free block without a hash is used before any cached one is
evicted; freed cached blocks join the tail of one queue, a request's last block first; eviction takes from its head;
a hit takes its block out of the queue; two blocks of the same content, computed at the same time, are both kept.
Blocks without a hash are interchangeable, so they are counted and have no object.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

NOT_FOUND_AGAIN: Final = -(1 << 61)
"""The content of blocks that nobody will ask for, though they stay cached like others until they are evicted."""


class CachedBlock:
    """A full block, or several in a row with one hash, that others may find by it."""

    __slots__ = ("blocks", "content", "references")

    def __init__(self, content: int, blocks: int = 1) -> None:
        self.content = content
        self.blocks = blocks
        self.references = 1


class BlockPool:
    """All KV blocks of an engine."""

    __slots__ = (
        "_by_content",
        "_evictable",
        "_evictable_blocks",
        "_plain",
        "_twins",
        "on_evicted",
        "total",
    )

    def __init__(self, total: int) -> None:
        self.total = total
        self._plain = total
        """Free blocks without content."""
        self._evictable: OrderedDict[CachedBlock, None] = OrderedDict()
        self._evictable_blocks = 0
        self._by_content: dict[int, CachedBlock] = {}
        self._twins: dict[int, list[CachedBlock]] = {}
        """Further blocks of a content, oldest first; nearly always empty."""
        self.on_evicted: Callable[[int], None] | None = None
        """Told of every content that is no longer cached."""

    @property
    def available(self) -> int:
        """Blocks that can be taken now, by eviction if need be."""
        return self._plain + self._evictable_blocks

    @property
    def used(self) -> int:
        return self.total - self.available

    @property
    def cached(self) -> int:
        """Distinct contents in the prefix cache."""
        return len(self._by_content)

    def match(self, block_hash: Callable[[int], int], limit: int) -> list[CachedBlock]:
        """The longest cached prefix, at most `limit` blocks. They are not taken yet."""
        found: list[CachedBlock] = []
        for index in range(limit):
            block = self._by_content.get(block_hash(index))
            if block is None:
                break
            found.append(block)
        return found

    def share(self, blocks: list[CachedBlock]) -> None:
        """Add a reference to each."""
        for block in blocks:
            if block.references == 0:
                del self._evictable[block]
                self._evictable_blocks -= block.blocks
            block.references += 1

    def take(self, count: int) -> None:
        """Take blocks that are `available`, evicting the least recently used contents if need be."""
        self._plain -= count
        if self._plain >= 0:
            return
        evictable, by_content, twins = self._evictable, self._by_content, self._twins
        while self._plain < 0:
            block, _ = evictable.popitem(last=False)
            self._plain += block.blocks
            self._evictable_blocks -= block.blocks
            if block.content == NOT_FOUND_AGAIN:
                continue
            if twins or self.on_evicted is not None:
                self._forget(block)
            else:
                del by_content[block.content]

    def remember(
        self, blocks: list[CachedBlock], block_hash: Callable[[int], int], full: int, together: int = 1
    ) -> None:
        """The first `full` hashes of a holder, of `together` blocks each, are full: let others find those of them
        not yet in `blocks`.
        """
        by_content = self._by_content
        for index in range(len(blocks), full):
            content = block_hash(index)
            block = CachedBlock(content, together)
            blocks.append(block)
            if content in by_content:
                self._twins.setdefault(content, []).append(block)
            else:
                by_content[content] = block

    def free(self, cached: list[CachedBlock], plain: int, *, stale: bool = False) -> None:
        """Give blocks back, the last cached one first: a chain's tail is evicted before its head.

        `stale`: the plain ones stay cached, too, though nobody will ask for them, and wait for their eviction.
        """
        if stale and plain:
            self._evictable[CachedBlock(NOT_FOUND_AGAIN, plain)] = None
            self._evictable_blocks += plain
        else:
            self._plain += plain
        for block in reversed(cached):
            block.references -= 1
            if block.references == 0:
                self._evictable[block] = None
                self._evictable_blocks += block.blocks

    def _forget(self, block: CachedBlock) -> None:
        content = block.content
        if content not in self._twins:
            del self._by_content[content]
            if self.on_evicted is not None:
                self.on_evicted(content)
            return
        twins = self._twins[content]
        if self._by_content[content] is block:
            self._by_content[content] = twins.pop(0)
        else:
            twins.remove(block)
        if not twins:
            del self._twins[content]
