"""The tenant with the smallest virtual token counter first."""

import heapq
from collections import deque
from typing import Final

from pointsman.core.queueing.served import INPUT_WEIGHT, Served
from pointsman.core.requests import RequestView


class VirtualTokens:
    """Fair shares for tenants: the request of the tenant that was given least, counting a prompt as given when it goes.

    Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), algorithm 2. Two tenants that both always have
    requests waiting never differ by more than twice the larger of a longest prompt and what may run at once. Within
    a tenant, first come first served. It needs no prediction.
    """

    name: Final = "virtual_tokens"

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        queues: dict[str, deque[RequestView]] = {}
        for request in waiting:
            queues.setdefault(request.tenant, deque()).append(request)
        # Equal counters go by who came first, which `waiting` lists first.
        heap = [(served.counter(tenant), place, tenant) for place, tenant in enumerate(queues)]
        heapq.heapify(heap)
        arranged: list[RequestView] = []
        while heap:
            counter, place, tenant = heap[0]
            request = queues[tenant].popleft()
            arranged.append(request)
            if queues[tenant]:
                heapq.heapreplace(heap, (counter + INPUT_WEIGHT * request.prompt_tokens, place, tenant))
            else:
                heapq.heappop(heap)
        return arranged
