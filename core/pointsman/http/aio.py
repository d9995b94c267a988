"""`await` on top of the pool, for those whose time per request is not the product: the load client, tests, tools."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pointsman.http.errors import ExchangeError, Failure
from pointsman.http.exchange import Exchange, Headers, Timeouts
from pointsman.http.origin import request_head
from pointsman.http.pool import Pool

BUFFER_BYTES = 256 * 1024
"""A stream is paused beyond so much that nobody has taken, and goes on below half of it."""
MAX_BODY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes


class StreamedResponse:
    """A response whose body is iterated over as it comes. Raises ExchangeError where it breaks off."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self._exchange: Exchange | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._ended = False
        self._error: ExchangeError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._exchange is not None and self._exchange.paused and self._buffered < BUFFER_BYTES // 2:
            self._exchange.resume()
        return data

    async def head(self, exchange: Exchange) -> None:
        """Wait for status and headers. Raises ExchangeError."""
        self._exchange = exchange
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers
        self._wake()

    def on_data(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFER_BYTES and self._exchange is not None:
            self._exchange.pause()
        self._wake()

    def on_end(self) -> None:
        self._ended = True
        self._wake()

    def on_error(self, error: ExchangeError) -> None:
        self._error = error
        self._wake()


@asynccontextmanager
async def stream(
    pool: Pool,
    method: str,
    target: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    timeouts: Timeouts | None = None,
) -> AsyncIterator[StreamedResponse]:
    """Send a request; in the block, iterate over the response. Leaving the block early aborts it.

    Raises ExchangeError. HEAD is not supported: its response has a length but no body.
    """
    response = StreamedResponse()
    length = len(body) if body or method not in ("GET", "DELETE") else None
    exchange = pool.send(
        request_head(pool.origin, method, target, headers, length), body, response, timeouts=timeouts
    )
    try:
        await response.head(exchange)
        yield response
    finally:
        exchange.abort()


async def request(
    pool: Pool,
    method: str,
    target: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    timeouts: Timeouts | None = None,
) -> Response:
    """Send a request and take the whole response, of at most MAX_BODY_BYTES. Raises ExchangeError."""
    async with stream(pool, method, target, headers=headers, body=body, timeouts=timeouts) as response:
        chunks, length = [], 0
        async for data in response:
            chunks.append(data)
            length += len(data)
            if length > MAX_BODY_BYTES:
                raise ExchangeError(
                    Failure.TOO_LARGE, f"response body beyond {MAX_BODY_BYTES} bytes", response_started=True
                )
    return Response(response.status, response.headers, b"".join(chunks))
