"""What tenants and programs have been given so far: a fold over the same records as the cluster's view."""

from collections import OrderedDict

from pointsman.core.requests import RequestView

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
"""A generated token counts twice a prompt's (the weights of the virtual token counter's paper)."""
MOST_PROGRAMS = 100_000
"""Programs remembered; who was served longest ago is forgotten, and would start anew."""


class Served:
    """Virtual token counters of tenants, and the tokens each program has attained.

    The counters are those of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), with one change:
    a tenant that comes back after a pause is lifted, when it is placed, to the counter of the last one placed (start-time
    fair queueing, Goyal et al. 1996), so that nothing but placements needs to be recorded. While a tenant has requests
    waiting the two are the same.
    """

    __slots__ = ("_attained", "_counters", "virtual_time")

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._attained: OrderedDict[str, int] = OrderedDict()
        self.virtual_time = 0
        """Counter with which the last request was placed; never falls."""

    def counter(self, tenant: str) -> int:
        """Weighted tokens, lifted to the virtual time."""
        return max(self._counters.get(tenant, 0), self.virtual_time)

    def attained(self, request: RequestView) -> int:
        """Tokens computed for the request's program so far; 0 for a request of none."""
        return self._attained.get(request.program, 0) if request.program else 0

    def placed(self, request: RequestView) -> None:
        """Its prompt will be computed."""
        tenant, tokens = request.tenant, request.prompt_tokens
        start = self._counters.get(tenant, 0)
        if start > self.virtual_time:
            self.virtual_time = start
        else:
            start = self.virtual_time
        self._counters[tenant] = start + INPUT_WEIGHT * tokens
        if request.program:
            self._attain(request.program, tokens)

    def generated(self, request: RequestView, tokens: int) -> None:
        """It has so many more output tokens."""
        self._counters[request.tenant] = self._counters.get(request.tenant, 0) + OUTPUT_WEIGHT * tokens
        if request.program:
            self._attain(request.program, tokens)

    def _attain(self, program: str, tokens: int) -> None:
        attained = self._attained
        attained[program] = attained.get(program, 0) + tokens
        attained.move_to_end(program)
        if len(attained) > MOST_PROGRAMS:
            attained.popitem(last=False)
