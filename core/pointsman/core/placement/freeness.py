"""The instance with the most free memory per running request: Llumnix."""

from math import inf
from random import Random
from typing import Final

import numpy as np

from pointsman.core.placement.policy import Costs, Pick, cheapest_of, kv_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots, vector
from pointsman.core.view import ClusterView, Stage


class Freeness:
    """Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving" (OSDI 2024): F = (M - sum V) / B.

    M KV tokens the instance holds, V the virtual usage of each of its requests, B how many they are; F is how many
    iterations its batch can go on before memory runs out. Dispatch goes to the largest F; an instance without requests
    is free beyond measure. V of a running request is what it holds, and of a waiting one what it asks for: the
    prompt. That is what the view's loads count. Llumnix's migration is not part of it.

    The virtual usage by which Llumnix protects a class is left out: priorities are the queue's business here. Wrong
    where capacities are not known: then M is 0, and the least of V per request wins.
    """

    name: Final = "freeness"

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        slot, cost = cheapest_of(slots, self._costs(view, request, slots), rng)
        return Pick(slot, cost, "most free KV per request")

    def _costs(self, view: ClusterView, request: RequestView, slots: Slots) -> Costs:
        loads, capacities, block_tokens = view.loads, view.kv_capacities, request.block_tokens
        if not slots.few:
            running = vector(loads.running)[slots.vector]
            free = vector(capacities)[slots.vector] - kv_tokens(view, slots, block_tokens)
            return np.where(running > 0, -free / np.maximum(1, running), -np.inf)
        costs: list[float] = []
        repeats = view.in_use.repeats
        for slot in slots.listed:
            requests: int = loads.running[slot]
            used = loads.prefill_tokens[slot] + loads.context_tokens[slot] - block_tokens * repeats[slot]
            room: int = capacities[slot] - used
            costs.append(-room / requests if requests else -inf)
        return costs
