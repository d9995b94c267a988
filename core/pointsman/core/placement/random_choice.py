"""Any candidate, all equally likely."""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.view import ClusterView, IntArray, Stage


@dataclass(frozen=True)
class RandomChoice:
    """Uniform; the baseline that knows nothing."""

    name: ClassVar[str] = "random"

    def pick(
        self, view: ClusterView, request: RequestView, slots: IntArray, stage: Stage, rng: Random
    ) -> Pick:
        return Pick(int(slots[int(rng.random() * len(slots))]), 0.0, "drawn at random")
