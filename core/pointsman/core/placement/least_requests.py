"""The candidate with the fewest requests."""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pointsman.core.placement.policy import Pick, cheapest
from pointsman.core.requests import RequestView
from pointsman.core.view import ClusterView, IntArray, Stage


@dataclass(frozen=True)
class LeastRequests:
    """cost = requests placed and not finished. "Join the shortest queue"; `least_request` of AIBrix and Envoy."""

    name: ClassVar[str] = "least_requests"

    def pick(
        self, view: ClusterView, request: RequestView, slots: IntArray, stage: Stage, rng: Random
    ) -> Pick:
        slot, cost = cheapest(slots, view.loads.running[slots], rng)
        return Pick(slot, cost, "fewest requests")
