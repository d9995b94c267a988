"""The candidate with the fewest outstanding tokens."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick, cheapest, outstanding_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class LeastTokens:
    """cost = prompt tokens still to prefill, plus context tokens being decoded, as far as the stage has them.

    Requests differ in size a thousandfold, so tokens are the better count of work (AIBrix `throughput`, SGLang's
    minimum-token load balancing of data-parallel ranks).
    """

    name: Final = "least_tokens"

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        slot, cost = cheapest(slots, outstanding_tokens(view, stage), rng)
        return Pick(slot, cost, "fewest outstanding tokens")
