"""The instance with the most free memory per running request: Llumnix."""

from random import Random
from typing import Final

from pointsman.core.placement.kv_cost import least
from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
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
        loads, listed = view.loads, slots.listed
        costs: list[float] = []
        for slot in listed:
            requests = loads.running[slot]
            if not requests:
                costs.append(float("-inf"))
                continue
            used = loads.prefill_tokens[slot] + loads.context_tokens[slot]
            costs.append(-(view.instance(slot).kv_capacity_tokens - used) / requests)
        at = least(costs, rng)
        return Pick(listed[at], costs[at], "most free KV per request")
