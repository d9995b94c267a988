"""Queue orders by the name they have in configuration and on the command line."""

from collections.abc import Callable, Mapping
from typing import Any

from pointsman.core.parameters import check_parameters
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
        ValueError: unknown name or parameter, the message lists what there is; or no number of 0 or more.

    """
    parameters = parameters or {}
    if name not in ORDERS:
        raise ValueError(f"unknown order {name!r}; there are {', '.join(sorted(ORDERS))}")
    check_parameters(f"order {name!r}", ORDERS[name], parameters)
    return ORDERS[name](**parameters)
