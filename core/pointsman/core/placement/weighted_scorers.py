"""The best weighted sum of a queue, a KV and a prefix score: llm-d's inference scheduler."""

from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pointsman.core.placement.policy import Pick, cheapest_of, kv_tokens, leading_tokens, spread_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Levels, Slots, vector
from pointsman.core.view import ClusterView, Stage


class WeightedScorers:
    """llm-d's default profile: three scorers in [0, 1], weighted, and the picker of the highest sum.

        queue  = (longest - own) / (longest - shortest), 1 where all are equal
        KV     = 1 - share of the KV capacity in use
        prefix = share of the prompt's blocks that are cached

    Weights are those of its default configuration: 2, 2 and 3 (Gateway API inference extension, `queue-scorer`,
    `kv-cache-utilization-scorer`, `prefix-cache-scorer`, `max-score-picker`). Ties at random. Decode stages have no
    use of the prefix.

    Where it differs: llm-d reads waiting requests and KV usage from the engines' metrics, up to a scrape interval old;
    here the router's own records stand in: requests placed and not finished, and their tokens. An instance whose
    capacity is not known counts as half full.
    """

    name: Final = "weighted_scorers"

    def __init__(self, queue_weight: float = 2.0, kv_weight: float = 2.0, prefix_weight: float = 3.0) -> None:
        self.queue_weight: Final = queue_weight
        self.kv_weight: Final = kv_weight
        self.prefix_weight: Final = prefix_weight

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        cached: Levels = []
        if request.block_hashes and stage is not Stage.DECODE:
            cached = view.prefixes.levels(request.block_hashes, slots.bits)
        scores = self._few if slots.few else self._many
        slot, cost = cheapest_of(slots, scores(view, request, slots, cached), rng)
        return Pick(slot, cost, "highest weighted score")

    def _few(self, view: ClusterView, request: RequestView, slots: Slots, cached: Levels) -> list[float]:
        loads, capacities, listed = view.loads, view.kv_capacities, slots.listed
        computed = leading_tokens(cached, request)
        repeats, block_tokens, prompt = view.in_use.repeats, request.block_tokens, request.prompt_tokens
        queued: list[int] = [loads.running[slot] for slot in listed]
        longest = max(queued)
        spread = longest - min(queued)
        costs: list[float] = []
        for slot, own in zip(listed, queued, strict=True):
            queue = (longest - own) / spread if spread else 1.0
            held: int = loads.prefill_tokens[slot] + loads.context_tokens[slot] - block_tokens * repeats[slot]
            capacity: int = capacities[slot]
            used = held / capacity if capacity else 0.5
            score = self.queue_weight * queue + self.kv_weight * (1.0 - min(1.0, used))
            if slot in computed:
                score += self.prefix_weight * (computed[slot] / max(1, prompt))
            costs.append(-score)
        return costs

    def _many(
        self, view: ClusterView, request: RequestView, slots: Slots, cached: Levels
    ) -> NDArray[np.float64]:
        chosen = slots.vector
        queued = vector(view.loads.running)[chosen]
        longest = int(queued.max())
        spread = longest - int(queued.min())
        queue = (longest - queued) / spread if spread else np.ones(len(slots))
        capacities = vector(view.kv_capacities)[chosen]
        used = kv_tokens(view, slots, request.block_tokens) / np.maximum(1, capacities)
        used = np.where(capacities > 0, used, 0.5)
        scores = self.queue_weight * queue + self.kv_weight * (1.0 - np.minimum(1.0, used))
        if cached:
            tokens = spread_tokens(cached, view, request, slots)
            scores = scores + self.prefix_weight * (tokens / max(1, request.prompt_tokens))
        return np.asarray(-scores, np.float64)
