"""Queue orders by the name they have in configuration and on the command line."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from pointsman.core.queueing.first_come import FirstCome
from pointsman.core.queueing.least_attained import LeastAttained
from pointsman.core.queueing.least_slack import LeastSlack
from pointsman.core.queueing.order import Order
from pointsman.core.queueing.shortest_predicted import ShortestPredicted
from pointsman.core.queueing.virtual_tokens import VirtualTokens

ORDERS: Mapping[str, Callable[..., Order]] = {
    order.name: order for order in (FirstCome, ShortestPredicted, LeastAttained, LeastSlack, VirtualTokens)
}


def make_order(name: str, parameters: Mapping[str, Any] | None = None) -> Order:
    """An order with its parameters.

    Raises:
        ValueError: unknown name or parameter; the message lists what there is.

    """
    parameters = parameters or {}
    if name not in ORDERS:
        raise ValueError(f"unknown order {name!r}; there are {', '.join(sorted(ORDERS))}")
    known = set(signature(ORDERS[name]).parameters)
    if unknown := sorted(set(parameters) - known):
        has = ", ".join(sorted(known)) or "none"
        raise ValueError(f"order {name!r} has no parameter {', '.join(unknown)}; it has {has}")
    return ORDERS[name](**parameters)
