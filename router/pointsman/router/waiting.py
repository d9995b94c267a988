"""The requests that wait in the router, counted by what a newcomer must know of them."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from pointsman.core.decide import Queue
from pointsman.core.decisions import Dispatch, Reject
from pointsman.core.requests import RequestView

Key = TypeVar("Key")
OnDecision = Callable[[Dispatch | Reject], None]


class WaitingRoom:
    """In order of arrival; by the request's id."""

    __slots__ = ("_entries", "_models", "_priorities")

    def __init__(self) -> None:
        self._entries: dict[str, tuple[RequestView, OnDecision]] = {}
        self._models: Counter[str] = Counter()
        self._priorities: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def requests(self) -> list[RequestView]:
        return [request for request, _ in self._entries.values()]

    def add(self, request: RequestView, on_decision: OnDecision) -> None:
        self._entries[request.request_id] = (request, on_decision)
        self._models[request.model] += 1
        self._priorities[request.priority] += 1

    def pop(self, request_id: str) -> tuple[RequestView, OnDecision] | None:
        """None: it does not wait."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            _discount(self._models, entry[0].model)
            _discount(self._priorities, entry[0].priority)
        return entry

    def before(self, model: str) -> Queue:
        """What a newcomer that asks for `model` finds."""
        return Queue(len(self._entries), model in self._models, min(self._priorities, default=0))


def _discount(counts: Counter[Key], key: Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
