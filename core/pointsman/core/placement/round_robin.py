"""Each candidate in turn."""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.view import ClusterView, IntArray, Stage


@dataclass(frozen=True)
class RoundRobin:
    """Candidate number (requests of the model placed so far) modulo the candidates.

    The default of most HTTP load balancers and of the vLLM and SGLang routers' `round_robin`.
    """

    name: ClassVar[str] = "round_robin"

    def pick(
        self, view: ClusterView, request: RequestView, slots: IntArray, stage: Stage, rng: Random
    ) -> Pick:
        turn = view.placed(request.model)
        return Pick(int(slots[turn % len(slots)]), float(turn), "next in turn")
