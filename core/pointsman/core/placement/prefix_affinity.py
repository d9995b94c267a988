"""Where most of the prompt is cached, unless the load is out of balance."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick, cheapest, extremes
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class PrefixAffinity:
    """SGLang router's `cache_aware`, on block hashes instead of characters.

    1. Out of balance, max - min > balance_abs and max > balance_rel * min requests: fewest requests.
    2. Else, if the best match covers more than `cache_threshold` of the prompt: the holder (fewest requests among
       several).
    3. Else the candidate whose index holds least, i.e. has most room for a new prefix.

    Defaults are those of its command line: 0.3, 64, 1.5 (its library defaults: 0.5, 32, 1.1). On decode stages
    the prefix is worth little and the rule is 1 without its condition.
    Wrong when engines evict what the index still lists: the request then merely computes its prompt.
    """

    name: Final = "prefix_affinity"
    reads_progress: Final = False

    def __init__(
        self, cache_threshold: float = 0.3, balance_abs: float = 64, balance_rel: float = 1.5
    ) -> None:
        self.cache_threshold: Final = cache_threshold
        self.balance_abs: Final = balance_abs
        self.balance_rel: Final = balance_rel

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        running = view.loads.running
        if stage is Stage.DECODE:
            slot, cost = cheapest(slots, running, rng)
            return Pick(slot, cost, "fewest requests (decode)")
        fewest, most = extremes(slots, running)
        if most - fewest > self.balance_abs and most > self.balance_rel * fewest:
            slot, cost = cheapest(slots, running, rng)
            return Pick(slot, cost, f"out of balance ({fewest} to {most} requests): fewest requests")
        hashes = request.block_hashes
        if hashes:
            match = view.prefixes.longest(hashes, slots.bits)
            share = match.blocks / len(hashes)
            if share > self.cache_threshold:
                slot, _ = cheapest(slots.within(match.holders), running, rng)
                return Pick(slot, 1.0 - share, f"{match.blocks} of {len(hashes)} prefix blocks cached")
        slot, cost = cheapest(slots, view.prefixes.sizes, rng)
        return Pick(slot, cost, "no prefix cached: most cache room")
