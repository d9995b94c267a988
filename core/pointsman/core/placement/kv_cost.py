"""The cheapest by prompt blocks to compute plus blocks being decoded: Dynamo's KV router."""

import math
from random import Random
from typing import Final

import numpy as np

from pointsman.core.placement.policy import Costs, Pick, cheapest_of, kv_tokens, leading_tokens, spread_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Levels, Slots, vector
from pointsman.core.view import ClusterView, Stage


class KvCost:
    """NVIDIA Dynamo's default worker cost (1.6, `lib/kv-router`), on tokens instead of blocks.

        cost = prefill_load_scale * max(0, prompt tokens not computed yet + this prompt - overlap_credit * cached here)
               + active_request_weight * requests
               + KV tokens held here, this prompt among them, what running requests share counted once

    The lowest cost wins, ties at random. `temperature` > 0 draws instead: softmax over costs that are scaled to a range
    of one. Decode stages count what is held alone, as Dynamo's decode routers do. Defaults are Dynamo's:
    1, 1, 0 and 0.

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
        if self.temperature > 0:
            at = drawn([float(cost) for cost in costs], self.temperature, rng)
            slot, cost = slots.listed[at], float(costs[at])
        else:
            slot, cost = cheapest_of(slots, costs, rng)
        return Pick(slot, cost, "fewest tokens to compute and to hold")

    def costs(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage) -> Costs:
        """Of each slot, in their order."""
        hashes = request.block_hashes
        cached: Levels = []
        in_use: Levels = []
        if hashes:
            in_use = view.in_use.levels(hashes, slots.bits)
            if stage is not Stage.DECODE:
                cached = view.prefixes.levels(hashes, slots.bits)
        if slots.few:
            return self._one_by_one(view, request, slots, stage, cached, in_use)
        loads, prompt, chosen = view.loads, request.prompt_tokens, slots.vector
        held = kv_tokens(view, slots, request.block_tokens) + prompt
        costs = np.asarray(held - spread_tokens(in_use, view, request, slots), np.float64)
        costs = costs + self.active_request_weight * vector(loads.running)[chosen]
        if stage is not Stage.DECODE:
            credit = self.overlap_credit * spread_tokens(cached, view, request, slots)
            pending = vector(loads.prefill_tokens)[chosen] + prompt
            costs = costs + self.prefill_load_scale * np.maximum(0.0, pending - credit)
        return costs

    def _one_by_one(
        self,
        view: ClusterView,
        request: RequestView,
        slots: Slots,
        stage: Stage,
        cached: Levels,
        in_use: Levels,
    ) -> list[float]:
        computed, shared = leading_tokens(cached, request), leading_tokens(in_use, request)
        loads, repeats = view.loads, view.in_use.repeats
        prefill, context, running = loads.prefill_tokens, loads.context_tokens, loads.running
        prompt, block_tokens = request.prompt_tokens, request.block_tokens
        computes = stage is not Stage.DECODE
        costs: list[float] = []
        for slot in slots.listed:
            pending: int = prefill[slot]
            runs: int = running[slot]
            held: int = pending + context[slot] - block_tokens * repeats[slot] + prompt - shared.get(slot, 0)
            cost = float(held) + self.active_request_weight * runs
            if computes:
                credit = self.overlap_credit * computed.get(slot, 0)
                cost += self.prefill_load_scale * max(0.0, pending + prompt - credit)
            costs.append(cost)
        return costs


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
