"""The least slack to its limits first."""

from math import inf
from typing import Final

from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView


class LeastSlack:
    """By the time that is left until a request must start, if its prompt is to end within the TTFT limit and its answer
    within the deadline; who cannot make it any more goes after those who can.

    slack = min(arrival + TTFT limit - prefill, deadline - prefill - answer) - now

    Least laxity first (Mok and Dertouzos 1978), as HexGen-Flow (2025) applies it to the stages of agent workflows. A stage
    counts by when it is due (`deadline_share`) where that is earlier than the deadline; one that is late for its share alone
    is not late: its workflow can still make it, and needs to go the sooner.
    `prefill_token_s` and `output_token_s` are what a token takes; 0 leaves the earliest deadline first. A wrong
    prediction shifts a slack by its error; hopeless requests are not dropped, admission is not an order's business.
    """

    name: Final = "least_slack"

    def __init__(self, prefill_token_s: float = 0.0, output_token_s: float = 0.0) -> None:
        self.prefill_token_s: Final = prefill_token_s
        self.output_token_s: Final = output_token_s

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        in_time: list[tuple[float, int]] = []
        late: list[tuple[float, int]] = []
        for place, request in enumerate(waiting):
            start_s = self.latest_start(request)
            (in_time if start_s >= now else late).append((min(start_s, self._due_start(request)), place))
        return [waiting[place] for _, place in sorted(in_time) + sorted(late)]

    def latest_start(self, request: RequestView) -> float:
        """When the request must start at the latest, on the clock of its arrival."""
        prefill_s = request.prompt_tokens * self.prefill_token_s
        answer_s = request.expected_output_tokens * self.output_token_s
        limit_s = request.slo.ttft_s
        first = inf if limit_s is None else request.arrived_s + limit_s
        return min(first, request.deadline_s - answer_s) - prefill_s

    def _due_start(self, request: RequestView) -> float:
        prefill_s = request.prompt_tokens * self.prefill_token_s
        return request.due_s - request.expected_output_tokens * self.output_token_s - prefill_s
