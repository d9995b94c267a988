"""The less loaded of two candidates drawn at random."""

from random import Random
from typing import Final

from pointsman.core.placement.policy import Pick
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class PowerOfTwo:
    """Draw two, take the one with fewer requests; the first drawn on a tie.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (IEEE TPDS 2001); `power_of_two` of the
    SGLang and vLLM routers.
    """

    name: Final = "power_of_two"
    reads_progress: Final = False

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        running = view.loads.running
        count = len(slots)
        first = int(rng.random() * count)
        if count == 1:
            slot = slots.listed[0]
            return Pick(slot, float(running[slot]), "the only candidate")
        second = int(rng.random() * (count - 1))
        second += second >= first
        one, other = slots.listed[first], slots.listed[second]
        chosen, left = (one, other) if running[one] <= running[other] else (other, one)
        return Pick(chosen, float(running[chosen]), f"fewer requests than the other drawn ({running[left]})")
