"""Each candidate in turn."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class RoundRobin:
    """Candidate number (requests of the model placed so far) modulo the candidates.

    The default of most HTTP load balancers and of the vLLM and SGLang routers' `round_robin`.
    """

    name: Final = "round_robin"
    reads_progress: Final = False

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        turn = view.placed(request.model)
        return Pick(slots.listed[turn % len(slots)], float(turn), "next in turn")
