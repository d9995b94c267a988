"""The HTTP/1.1 client: callback style (`Pool.send`) for the data path, `request` and `stream` to await elsewhere."""

from pointsman.http.aio import Response, StreamedResponse, request, stream
from pointsman.http.errors import ExchangeError, Failure
from pointsman.http.exchange import Exchange, Headers, Receiver, Timeouts
from pointsman.http.origin import Origin, parse_url, request_head
from pointsman.http.pool import Pool
from pointsman.http.sweeper import Sweeper

__all__ = [
    "Exchange",
    "ExchangeError",
    "Failure",
    "Headers",
    "Origin",
    "Pool",
    "Receiver",
    "Response",
    "StreamedResponse",
    "Sweeper",
    "Timeouts",
    "parse_url",
    "request",
    "request_head",
    "stream",
]
