"""The program that was served least first."""

from typing import Final

from pointsman.core.queueing.order import starving_first
from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView


class LeastAttained:
    """By the tokens computed for a request's program so far; who has waited longer than `starvation_s` goes first.

    Luo et al., "Autellix: An Efficient Serving Engine for LLM Agents as General Programs" (2025): programs of few calls
    end before those of many hold them up, without a prediction. Its levels of priority are left out: orders here
    do not preempt. A request of no program counts as a program that begins.
    """

    name: Final = "least_attained"

    def __init__(self, starvation_s: float = 60.0) -> None:
        self.starvation_s: Final = starvation_s

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        starving, others = starving_first(waiting, now, self.starvation_s)
        others.sort(key=served.attained)
        return starving + others
