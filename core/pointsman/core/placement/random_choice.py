"""Any candidate, all equally likely."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class RandomChoice:
    """Uniform; the baseline that knows nothing."""

    name: Final = "random"
    reads_progress: Final = False

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        return Pick(slots.listed[int(rng.random() * len(slots))], 0.0, "drawn at random")
