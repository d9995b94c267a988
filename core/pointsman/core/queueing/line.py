"""Requests that wait, so that whose turn it is by arrival is found without a look at all the others."""

from bisect import insort
from collections import Counter
from collections.abc import Container, Iterator
from heapq import heapify, heappop, heappush
from typing import TypeAlias, TypeVar

from pointsman.core.requests import RequestView

Kind: TypeAlias = tuple[str, bool]
"""Model, and whether prefill and decode may be apart: who is of one kind finds room, or none, as the others do."""
Key = TypeVar("Key")
Place: TypeAlias = tuple[int, float, int]
"""Priority, lowest number first; arrival; and who was told of first."""


def kind_of(request: RequestView) -> Kind:
    return request.model, request.may_split


class Line:
    """By kind in order of priority and arrival, with the request's id as its name. Who leaves stays in its kind's list until
    those before it have left, or half of the list has.
    """

    __slots__ = ("_joined", "_kinds", "_left", "_models", "_priorities", "_requests")

    def __init__(self) -> None:
        self._requests: dict[str, tuple[Place, RequestView]] = {}
        self._kinds: dict[Kind, list[tuple[Place, RequestView]]] = {}
        self._left: Counter[Kind] = Counter()
        self._models: Counter[str] = Counter()
        self._priorities: Counter[int] = Counter()
        self._joined = 0

    def __len__(self) -> int:
        return len(self._requests)

    def requests(self) -> list[RequestView]:
        """In the order in which they were told of."""
        return [request for _, request in self._requests.values()]

    def waits_for(self, model: str) -> bool:
        """Whether any of them wants this model."""
        return model in self._models

    @property
    def lowest_priority(self) -> int:
        return min(self._priorities, default=0)

    def add(self, request: RequestView) -> None:
        self._joined += 1
        place = (-request.priority, request.arrived_s, self._joined)
        entry = self._requests[request.request_id] = (place, request)
        # Nearly always at the end, where nothing is moved for it.
        insort(self._kinds.setdefault(kind_of(request), []), entry, key=_place)
        self._models[request.model] += 1
        self._priorities[request.priority] += 1

    def pop(self, request_id: str) -> RequestView | None:
        """None: it does not wait."""
        entry = self._requests.pop(request_id, None)
        if entry is None:
            return None
        request = entry[1]
        _discount(self._models, request.model)
        _discount(self._priorities, request.priority)
        kind = kind_of(request)
        self._left[kind] += 1
        members = self._kinds[kind]
        if 2 * self._left[kind] >= len(members):
            self._kinds[kind] = members = [entry for entry in members if self._waits(entry)]
            del self._left[kind]
            if not members:
                del self._kinds[kind]
        return request

    def by_arrival(self, passed_over: Container[Kind]) -> Iterator[RequestView]:
        """By priority, then arrival, without the kinds that are in `passed_over` when their next would be due."""
        kinds = [(kind, iter(members)) for kind, members in self._kinds.items()]
        heads: list[tuple[Place, int, RequestView]] = []
        for number, (_, members) in enumerate(kinds):
            self._next(heads, number, members)
        heapify(heads)
        while heads:
            _, number, request = heappop(heads)
            kind, members = kinds[number]
            if kind in passed_over:
                continue
            yield request
            if kind not in passed_over:
                self._next(heads, number, members)

    def _next(
        self,
        heads: list[tuple[Place, int, RequestView]],
        number: int,
        members: Iterator[tuple[Place, RequestView]],
    ) -> None:
        for entry in members:
            if self._waits(entry):
                heappush(heads, (entry[0], number, entry[1]))
                return

    def _waits(self, entry: tuple[Place, RequestView]) -> bool:
        # By place, which is nobody else's: compiled code makes a new tuple of one that it passes on.
        found = self._requests.get(entry[1].request_id)
        return found is not None and found[0] == entry[0]


def _place(entry: tuple[Place, RequestView]) -> Place:
    return entry[0]


def _discount(counts: Counter[Key], key: Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
