"""The seam every queue order is written against."""

from collections.abc import Sequence
from typing import Protocol

from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView


class Order(Protocol):
    """A pure rule. Its attributes are the parameters it was made with, never state."""

    @property
    def name(self) -> str: ...

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        """The same requests, who is to go first at the front. They come in order of arrival and are of one priority."""


def in_order(order: Order, waiting: Sequence[RequestView], served: Served, now: float) -> list[RequestView]:
    """Priority bands, higher first; within a band, the order's rule."""
    arrived = sorted(waiting, key=_arrival)
    if not arrived or arrived[0].priority == arrived[-1].priority:
        return order.arrange(arrived, served, now)
    bands: dict[int, list[RequestView]] = {}
    for request in arrived:
        bands.setdefault(request.priority, []).append(request)
    return [request for band in bands.values() for request in order.arrange(band, served, now)]


def _arrival(request: RequestView) -> tuple[int, float]:
    return (-request.priority, request.arrived_s)


def starving_first(
    waiting: list[RequestView], now: float, bound_s: float
) -> tuple[list[RequestView], list[RequestView]]:
    """Who has waited longer than the bound, first come first, and the others."""
    starving: list[RequestView] = []
    others: list[RequestView] = []
    for request in waiting:
        (starving if now - request.arrived_s > bound_s else others).append(request)
    return starving, others
