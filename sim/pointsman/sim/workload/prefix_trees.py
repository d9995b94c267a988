"""Prompts that grow as trees of prefix blocks, as in the Mooncake traces.

A request follows an earlier one or none. A follow-up's length and the part of it that is repeated are drawn first; then,
among some of those who came about a drawn age ago, the one is followed whose prompt is just long enough for that part, or
the longest. So lengths are as they were published, and so is the share of blocks that an endless cache would hit; how many
follow one and the same request comes out by itself.
"""

from bisect import bisect_left
from collections.abc import Sequence

from pointsman.sim.workload.request import HASH_BLOCK_TOKENS
from pointsman.sim.workload.statistics import PrefixSharing

NEIGHBOURS = 48
"""Candidates on either side of the drawn age."""
FORGOTTEN_AT_ONCE = 4096


class PrefixTrees:
    """Hash ids for request after request."""

    __slots__ = ("_arrivals_s", "_chains", "_common", "_longest_age_s", "_next_id")

    def __init__(self, sharing: PrefixSharing) -> None:
        self._common = tuple(range(sharing.common_blocks))
        self._next_id = sharing.common_blocks
        self._longest_age_s = sharing.age_s[-1][1]
        self._arrivals_s: list[float] = []
        self._chains: list[tuple[int, ...]] = []

    def fresh(self, arrival_s: float, prompt_tokens: int) -> tuple[int, ...]:
        """For a request that follows none."""
        return self._grow(arrival_s, self._common, prompt_tokens)

    def follow(
        self, arrival_s: float, prompt_tokens: int, age_s: float, shared_share: float
    ) -> tuple[int, ...]:
        """For a request that repeats so much of one that came `age_s` ago; for a fresh one where none has come yet."""
        blocks = -(-prompt_tokens // HASH_BLOCK_TOKENS)
        wanted = min(blocks, max(len(self._common) + 1, round(shared_share * blocks)))
        parent = self._parent(arrival_s - age_s, wanted)
        return self._grow(arrival_s, parent[:wanted] or self._common, prompt_tokens)

    def _parent(self, at_s: float, wanted: int) -> tuple[int, ...]:
        middle = bisect_left(self._arrivals_s, at_s)
        chains: Sequence[tuple[int, ...]] = self._chains[max(0, middle - NEIGHBOURS) : middle + NEIGHBOURS]
        if not chains:
            return ()
        enough = [chain for chain in chains if len(chain) >= wanted]
        return min(enough, key=len) if enough else max(chains, key=len)

    def _grow(self, arrival_s: float, shared: tuple[int, ...], prompt_tokens: int) -> tuple[int, ...]:
        blocks = -(-prompt_tokens // HASH_BLOCK_TOKENS)
        first, self._next_id = self._next_id, self._next_id + max(0, blocks - len(shared))
        chain = shared[:blocks] + tuple(range(first, self._next_id))
        self._arrivals_s.append(arrival_s)
        self._chains.append(chain)
        if len(self._chains) > 2 * FORGOTTEN_AT_ONCE:
            self._forget(arrival_s - self._longest_age_s)
        return chain

    def _forget(self, before_s: float) -> None:
        """Nobody follows who came before, so that memory does not grow with time."""
        old = bisect_left(self._arrivals_s, before_s)
        if old >= FORGOTTEN_AT_ONCE:
            del self._arrivals_s[:old], self._chains[:old]
