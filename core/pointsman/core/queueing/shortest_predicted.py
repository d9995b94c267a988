"""The shortest predicted answer first."""

from typing import Final

from pointsman.core.queueing.order import starving_first
from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView


class ShortestPredicted:
    """By expected output tokens; who has waited longer than `starvation_s` goes before all others, first come first.

    Fu et al., "Efficient LLM Scheduling by Learning to Rank" (NeurIPS 2024), whose starvation bound counts
    iterations. Requests without a prediction count as the mean of those that wait with one. A wrong prediction costs the
    mispredicted request at most the bound, and the others the time of one request that was longer than it seemed.
    """

    name: Final = "shortest_predicted"

    def __init__(self, starvation_s: float = 60.0) -> None:
        self.starvation_s: Final = starvation_s

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        starving, others = starving_first(waiting, now, self.starvation_s)
        known = [request.expected_output_tokens for request in others if request.expected_output_tokens]
        mean = sum(known) / len(known) if known else 0.0
        others.sort(key=lambda request: request.expected_output_tokens or mean)
        return starving + others
