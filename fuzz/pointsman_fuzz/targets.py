"""The targets by name. Each takes bytes and raises where something is wrong."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from pointsman_fuzz import body, events, metrics, request, response

Target = Callable[[bytes], Awaitable[None]]

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "response": response.run,
        "request": request.run,
        "body": body.run,
        "events": events.run,
        "metrics": metrics.run,
    }
)
