"""The requests that wait in the router, and who is to hear what becomes of them."""

from collections.abc import Callable

from pointsman.core.decide import Queue
from pointsman.core.decisions import Dispatch, Reject
from pointsman.core.queueing.line import Line
from pointsman.core.requests import RequestView

OnDecision = Callable[[Dispatch | Reject], None]


class WaitingRoom:
    """A line, by the request's id."""

    __slots__ = ("_listeners", "line")

    def __init__(self) -> None:
        self.line = Line()
        self._listeners: dict[str, OnDecision] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, request: RequestView, on_decision: OnDecision) -> None:
        self.line.add(request)
        self._listeners[request.request_id] = on_decision

    def pop(self, request_id: str) -> tuple[RequestView, OnDecision] | None:
        """None: it does not wait."""
        request = self.line.pop(request_id)
        return None if request is None else (request, self._listeners.pop(request_id))

    def before(self, model: str) -> Queue:
        """What a newcomer that asks for `model` finds."""
        line = self.line
        return Queue(len(line), line.waits_for(model), line.lowest_priority)
