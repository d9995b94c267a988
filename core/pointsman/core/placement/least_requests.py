"""The candidate with the fewest requests."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick, cheapest
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class LeastRequests:
    """cost = requests placed and not finished. "Join the shortest queue"; `least_request` of AIBrix and Envoy."""

    name: Final = "least_requests"
    reads_progress: Final = False

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        slot, cost = cheapest(slots, view.loads.running, rng)
        return Pick(slot, cost, "fewest requests")
