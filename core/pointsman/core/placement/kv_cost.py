"""The cheapest by prompt blocks to compute plus blocks being decoded: Dynamo's KV router."""

import math
from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick, cached_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class KvCost:
    """NVIDIA Dynamo's default worker cost (1.6, `lib/kv-router`), on tokens instead of blocks.

        cost = prefill_load_scale * max(0, prompt tokens not computed yet + this prompt - overlap_credit * cached here)
               + active_request_weight * requests
               + context tokens held here, this prompt among them

    The lowest cost wins, ties at random. `temperature` > 0 draws instead: softmax over costs that are scaled to a range
    of one. Decode stages count what is held alone, as Dynamo's decode routers do. Defaults are Dynamo's:
    1, 1, 0 and 0.

    Where it differs: Dynamo counts blocks that two running requests share once, the view's loads count them for each.
    Wrong when an engine has evicted what the index still
    lists: the instance then gets work for which it has no head start.
    """

    name: Final = "kv_cost"

    def __init__(
        self,
        overlap_credit: float = 1.0,
        prefill_load_scale: float = 1.0,
        active_request_weight: float = 0.0,
        temperature: float = 0.0,
    ) -> None:
        self.overlap_credit: Final = overlap_credit
        self.prefill_load_scale: Final = prefill_load_scale
        self.active_request_weight: Final = active_request_weight
        self.temperature: Final = temperature

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        costs = self.costs(view, request, slots, stage)
        at = drawn(costs, self.temperature, rng) if self.temperature > 0 else least(costs, rng)
        return Pick(slots.listed[at], costs[at], "fewest tokens to compute and to hold")

    def costs(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage) -> list[float]:
        """Of each slot, in their order."""
        loads, prompt = view.loads, request.prompt_tokens
        costs: list[float] = []
        for slot in slots.listed:
            pending = loads.prefill_tokens[slot]
            cost = float(pending + loads.context_tokens[slot] + prompt)
            cost += self.active_request_weight * loads.running[slot]
            if stage is not Stage.DECODE:
                credit = self.overlap_credit * cached_tokens(view, request, slot)
                cost += self.prefill_load_scale * max(0.0, pending + prompt - credit)
            costs.append(cost)
        return costs


def least(costs: list[float], rng: Random) -> int:
    """Position of a least cost, ties at random."""
    lowest = min(costs)
    ties = [position for position, cost in enumerate(costs) if cost == lowest]
    return ties[int(rng.random() * len(ties)) if len(ties) > 1 else 0]


def drawn(costs: list[float], temperature: float, rng: Random) -> int:
    """Position drawn by a softmax over costs scaled to [0, 1]; equals are equally likely."""
    lowest, highest = min(costs), max(costs)
    spread = (highest - lowest) or 1.0
    weights = [math.exp(-(cost - lowest) / (spread * temperature)) for cost in costs]
    left = rng.random() * sum(weights)
    for position, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return position
    return len(costs) - 1
