"""One connection to a server, and the response parser on it."""

import asyncio
from typing import TYPE_CHECKING

import httptools

from pointsman.http.errors import ExchangeError, Failure
from pointsman.http.exchange import Exchange, Headers

if TYPE_CHECKING:
    from pointsman.http.pool import Pool

MAX_HEAD_BYTES = 64 * 1024
"""Of a response head, a chunk's line or the trailers: of anything that is not body."""
MAX_HEADERS = 128
JOIN_BYTES = 64 * 1024
"""Up to here head and body are copied into one buffer; beyond, written one after the other."""


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its response.

    What the parser calls during a read is gathered, and the receiver is told once the read is parsed: a receiver may
    then abort, or send the next request, without meeting the parser half way.
    """

    __slots__ = (
        "_body", "_chunked", "_close", "_complete", "_has_length", "_head_done", "_headers", "_heard", "_interim",
        "_parser", "_pool", "_quiet_bytes", "_quiet_s", "_responded", "_reused", "_status", "_told_head", "exchange",
        "transport",
    )  # fmt: skip

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self._reused = False
        self._heard = True
        """Since the last sweep; an open connection counts as heard of, so that its silence begins then."""
        self._quiet_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._status = 0
        self._head_done = False
        self._told_head = False
        self._complete = False
        self._interim = False
        self._has_length = False
        self._chunked = False
        self._close = False
        self._responded = False
        self._quiet_bytes = 0

    # Sending

    def start(self, exchange: Exchange, now_s: float) -> None:
        """Send the request of an exchange on this idle connection."""
        transport = self.transport
        if transport is None:
            raise RuntimeError("start() on a closed connection")
        self.exchange = exchange
        exchange.connection = self
        self._heard, self._quiet_s = False, now_s
        if len(exchange.body) <= JOIN_BYTES:
            transport.write(exchange.head + exchange.body)
        else:
            transport.writelines((exchange.head, exchange.body))
        if exchange.paused:
            transport.pause_reading()

    def pause_reading(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._heard = True  # it was we who were silent
        if self.transport is not None:
            self.transport.resume_reading()

    def close(self) -> None:
        """Close at once; an exchange under way fails."""
        self._fail(Failure.CLOSED, "the pool was closed")

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self.exchange = None
        transport = self.transport
        if transport is not None:
            self.transport = None
            transport.abort()
        self._pool.forget(self)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as the base

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.abort()  # nobody asked: a response to nothing, or a goodbye such as 408
            return
        self._responded = self._heard = True
        self._quiet_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Failure.PROTOCOL, "the server wants to switch protocols")
            return
        except httptools.HttpParserError as error:
            if not self._complete:
                self._fail(Failure.PROTOCOL, f"not an HTTP/1.1 response: {error}")
                return
            self._close = True  # garbage after a complete response
        if self._quiet_bytes > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
            self._fail(
                Failure.TOO_LARGE, f"response head, chunk line or trailer beyond {MAX_HEAD_BYTES} bytes"
            )
            return
        self._deliver(exchange)

    def eof_received(self) -> None:
        exchange = self.exchange
        if exchange is not None and self._head_done and not self._has_length and not self._chunked:
            self._close = self._complete = True  # a body that ends with the connection
            self._deliver(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        exchange = self.exchange
        if exchange is None:
            self._pool.forget(self)
        elif self._reused and not self._responded and exchange.resend and exchange.receiver is not None:
            # The server closed an idle connection just as we used it: nothing of the request was answered.
            self.exchange = exchange.connection = None
            self._pool.forget(self)
            self._pool.connect(exchange)
        else:
            self._fail(
                Failure.CLOSED,
                f"connection closed before the response was complete{f': {exc}' if exc else ''}",
            )

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines. Called a few times a second by the pool's sweeper."""
        exchange = self.exchange
        if exchange is None:
            if self._heard:
                self._heard, self._quiet_s = False, now_s
            elif now_s - self._quiet_s > self._pool.idle_s:
                self.abort()
            return
        limits = exchange.timeouts
        if limits.total_s is not None and now_s - exchange.started_s > limits.total_s:
            self._fail(Failure.TOTAL_TIMEOUT, f"no complete response within {limits.total_s:g} s")
        elif self._heard or exchange.paused:
            self._heard, self._quiet_s = False, now_s
        elif self._responded:
            if limits.between_bytes_s is not None and now_s - self._quiet_s > limits.between_bytes_s:
                self._fail(Failure.BETWEEN_BYTES_TIMEOUT, f"no byte for {limits.between_bytes_s:g} s")
        elif limits.first_byte_s is not None and now_s - self._quiet_s > limits.first_byte_s:
            self._fail(Failure.FIRST_BYTE_TIMEOUT, f"no response within {limits.first_byte_s:g} s")

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._complete:
            self._close = True  # more than the one response that was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 100:
            raise ValueError("a status below 100")  # llhttp lets it have a body
        if status < 200:
            self._interim = True
            return
        self._status = status
        self._head_done = True
        self._quiet_bytes = 0
        for name, value in self._headers:
            if name == b"content-length":
                self._has_length = True
            elif name == b"transfer-encoding":
                self._chunked = value.lower() == b"chunked"
                if not self._chunked:
                    raise ValueError("transfer-encoding other than chunked")
        if self._has_length and self._chunked:
            raise ValueError("both content-length and transfer-encoding")
        if status in (204, 304):
            self._has_length = True

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            if not self._head_done:
                raise ValueError("a body in an interim response")
            self._quiet_bytes = 0
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._headers.clear()
        else:
            self._complete = True
            if not self._parser.should_keep_alive():
                self._close = True

    # Telling the receiver

    def _deliver(self, exchange: Exchange) -> None:
        """Pass on what the last read brought. The receiver may abort the exchange in any of its calls."""
        if self._head_done and not self._told_head:
            self._told_head = True
            receiver = exchange.receiver
            if receiver is not None:
                receiver.on_head(self._status, self._headers)
        body = self._body
        if body:
            receiver = exchange.receiver
            if receiver is not None:
                data = body[0] if len(body) == 1 else b"".join(body)
                body.clear()
                receiver.on_data(data)
        if self._complete and exchange.receiver is not None:
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        receiver, exchange.receiver = exchange.receiver, None
        exchange.connection = self.exchange = None
        if self._close or self.transport is None or self.transport.is_closing():
            self.abort()
        else:
            if exchange.paused:
                self.transport.resume_reading()
            self._reset()
            self._reused = True
            self._pool.release(self)
        if receiver is not None:
            receiver.on_end()

    def _fail(self, failure: Failure, message: str) -> None:
        exchange, responded = self.exchange, self._responded
        self.abort()
        if exchange is not None:
            exchange.fail(
                ExchangeError(
                    failure, f"{self._pool.origin.authority}: {message}", response_started=responded
                )
            )
