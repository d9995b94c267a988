"""The candidate with the fewest outstanding tokens."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick, cheapest, cheapest_of, outstanding_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage

WHY: Final = "fewest outstanding tokens"


class LeastTokens:
    """cost = prompt tokens still to prefill, plus context tokens being decoded, as far as the stage has them.

    Requests differ in size a thousandfold, so tokens are the better count of work (AIBrix `throughput`, SGLang's
    minimum-token load balancing of data-parallel ranks).
    """

    name: Final = "least_tokens"

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        if stage is Stage.WHOLE:
            slot, cost = cheapest_of(slots, outstanding_tokens(view, slots), rng)
            return Pick(slot, cost, WHY)
        loads = view.loads
        tokens = loads.prefill_tokens if stage is Stage.ENTRY else loads.context_tokens
        least = cheapest(slots, tokens, rng)
        return Pick(least[0], least[1], WHY)
