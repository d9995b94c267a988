"""The best weighted sum of a queue, a KV and a prefix score: llm-d's inference scheduler."""

from random import Random
from typing import Final

from pointsman.core.placement.kv_cost import least
from pointsman.core.placement.policy import Pick, cached_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
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
        loads, listed = view.loads, slots.listed
        queued = [loads.running[slot] for slot in listed]
        longest = max(queued)
        spread = longest - min(queued)
        costs: list[float] = []
        for slot, own in zip(listed, queued, strict=True):
            queue = (longest - own) / spread if spread else 1.0
            capacity = view.instance(slot).kv_capacity_tokens
            used = (loads.prefill_tokens[slot] + loads.context_tokens[slot]) / capacity if capacity else 0.5
            score = self.queue_weight * queue + self.kv_weight * (1.0 - min(1.0, used))
            if stage is not Stage.DECODE:
                score += (
                    self.prefix_weight * cached_tokens(view, request, slot) / max(1, request.prompt_tokens)
                )
            costs.append(-score)
        at = least(costs, rng)
        return Pick(listed[at], costs[at], "highest weighted score")
