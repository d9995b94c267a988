"""The public port: one client connection, its requests read strictly and answered in order."""

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from pointsman.http.body import ChunkedBody
from pointsman.http.errors import BadRequestError
from pointsman.http.head import RequestHead, parse_head
from pointsman.http.head_memory import HeadMemory
from pointsman.router.settings import ClientLimits

if TYPE_CHECKING:
    from pointsman.router.server import PublicServer

WRITE_BUFFER_BYTES = 64 * 1024
"""Beyond so much that the client has not taken, its engine stream is paused."""
BACKLOG_BYTES = 64 * 1024
"""Beyond so much of further requests, sent before the present one is answered, the connection is not read."""
LINGER_S = 2.0
"""How long a connection that is closed early takes in, and drops, what the client is still sending."""
STALLED_S = 300.0
"""A client that takes nothing of its answer for so long is gone."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Session(Protocol):
    """What answers one request."""

    def on_client_gone(self) -> None:
        """The client has left: cancel everything. Nothing may be written any more."""

    def on_client_full(self) -> None:
        """The client does not keep up: bring no more until `on_client_ready`."""

    def on_client_ready(self) -> None: ...


class Handler(Protocol):
    """What a connection's requests go to."""

    def admit(self, head: RequestHead, client: "ClientConnection") -> object | None:
        """Look at the head, before any of the body is taken in. None: refused, and answered already."""

    def handle(self, admission: Any, head: RequestHead, body: bytes, client: "ClientConnection") -> None:
        """Answer with `client.respond`, or set `client.session` and answer later."""

    def malformed(self, status: int, message: str, client: "ClientConnection") -> None:
        """Answer what is not an HTTP request, or came too slowly. The connection closes afterwards."""


class _State(Enum):
    HEAD = auto()
    LENGTH_BODY = auto()
    CHUNKED_BODY = auto()
    ANSWERING = auto()
    LINGERING = auto()
    CLOSED = auto()


class ClientConnection(asyncio.Protocol):
    """Reads requests, one at a time, and writes their answers: `respond` for a whole one, or `begin`, `write`, `end`.

    A client that shuts down its sending side while its answer is under way is taken to have left: this cannot be
    told from a closed connection, and cancelling at once matters more.
    """

    __slots__ = (
        "_admission", "_body", "_buffer", "_chunked_answer", "_full", "_handler", "_head", "_heads", "_reading_paused", "_scanned",
        "_server", "_since_s", "_state", "_transport", "peer", "remembered", "session",
    )  # fmt: skip

    def __init__(self, server: "PublicServer") -> None:
        self._server = server
        self._handler = server.handler
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        """The client's IP address."""
        self.session: Session | None = None
        self.remembered: object = None
        """What the handler keeps about this client from one request to the next."""
        self._state = _State.HEAD
        self._buffer = bytearray()
        self._scanned = 0
        self._head: RequestHead | None = None
        self._heads = HeadMemory()
        self._body: ChunkedBody | None = None
        self._admission: object = None
        self._chunked_answer = False
        self._reading_paused = False
        self._full = False
        self._since_s = 0.0
        """When the present state began; for an idle connection, when it became idle."""

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio types it as the base
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)  # type: ignore[attr-defined]
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
        self._since_s = self._server.clock()
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _State.HEAD:
            if self._buffer:
                self._buffer += data
                self._read_buffered_head()
            else:
                self._read_head(data)
        elif state is _State.ANSWERING:
            self._buffer += data
            if len(self._buffer) > BACKLOG_BYTES and self._transport is not None and not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
        elif state is _State.LENGTH_BODY:
            self._buffer += data
            self._read_length_body()
        elif state is _State.CHUNKED_BODY:
            self._read_chunked_body(data)

    def eof_received(self) -> None:
        """Returning None closes the connection once what was written is sent."""
        if self._state in (_State.LENGTH_BODY, _State.CHUNKED_BODY) or (
            self._state is _State.HEAD and self._buffer
        ):
            self._refuse(400, "the connection was closed in the middle of the request")
        elif self._state is _State.ANSWERING:
            self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._leave()
        self._state = _State.CLOSED
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._full = True
        self._since_s = self._server.clock()
        if self.session is not None:
            self.session.on_client_full()

    def resume_writing(self) -> None:
        self._full = False
        if self.session is not None:
            self.session.on_client_ready()

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines. Called a few times a second."""
        timeouts, waited_s = self._server.timeouts, now_s - self._since_s
        if self._state is _State.HEAD:
            if self._buffer:
                if waited_s > timeouts.head_s:
                    self._refuse(408, f"no complete request head within {timeouts.head_s:g} s")
            elif waited_s > timeouts.idle_s:
                self.close()
        elif self._state in (_State.LENGTH_BODY, _State.CHUNKED_BODY):
            if waited_s > timeouts.body_s:
                self._refuse(408, f"no complete request body within {timeouts.body_s:g} s")
        elif (self._state is _State.LINGERING and waited_s > LINGER_S) or (
            self._full and waited_s > STALLED_S
        ):
            self.abort()

    # Reading requests

    def _read_buffered_head(self) -> None:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 and len(buffer) <= self._server.limits.header_bytes:
            self._scanned = len(buffer)
            return
        data = bytes(buffer)
        buffer.clear()
        self._scanned = 0
        self._read_head(data)

    def _read_head(self, data: bytes) -> None:
        """`data` begins with a request's first byte."""
        if data[:2] == b"\r\n":
            data = data[2:]  # an empty line that some clients send after a body (RFC 9112, 2.2)
        limits = self._server.limits
        head = self._heads.match(data, limits)
        try:
            if head is None:
                end = data.find(b"\r\n\r\n")
                if end < 0 and len(data) <= limits.header_bytes:
                    self._hold_partial_head(data)
                    return
                head = _checked_head(data, end, limits)
                self._heads.remember(data[: head.size], head, limits)
            _check_sizes(head, limits)
        except BadRequestError as error:
            self._refuse(error.status, str(error))
            return
        self._head = head
        start, length = head.size, head.content_length
        if not head.chunked and len(data) - start >= length:
            if len(data) - start > length:
                self._buffer += data[start + length :]
            self._state = _State.ANSWERING
            admission = self._handler.admit(head, self)
            if admission is not None:
                self._handler.handle(admission, head, data[start : start + length], self)
        else:
            self._begin_body(head, data[start:])

    def _hold_partial_head(self, data: bytes) -> None:
        """Not all of the head is there. Refuse at once what cannot become a request."""
        self._buffer += data
        self._scanned = len(data)
        self._since_s = self._server.clock()
        if data == b"\r":
            return  # half of an empty line, perhaps
        first = data[:16].partition(b" ")[0]
        if data and not (first.isascii() and first.decode("ascii").replace("-", "").isalpha()):
            self._refuse(400, "this is not an HTTP request")
        elif b"\n\n" in data:
            self._refuse(400, "a line of the request head ends with LF alone")

    def _begin_body(self, head: RequestHead, data: bytes) -> None:
        self._state = _State.CHUNKED_BODY if head.chunked else _State.LENGTH_BODY
        self._since_s = self._server.clock()
        self._admission = self._handler.admit(head, self)
        if self._admission is None:
            return
        if head.expects_continue and not data and self._transport is not None:
            self._transport.write(CONTINUE)
        if head.chunked:
            self._body = ChunkedBody(self._server.limits.body_bytes)
            self._read_chunked_body(data)
        else:
            self._buffer += data

    def _read_length_body(self) -> None:
        head, buffer = self._head, self._buffer
        if head is not None and len(buffer) >= head.content_length:
            body = bytes(memoryview(buffer)[: head.content_length])
            del buffer[: head.content_length]
            self._state = _State.ANSWERING
            self._handler.handle(self._admission, head, body, self)

    def _read_chunked_body(self, data: bytes) -> None:
        head, body = self._head, self._body
        if head is None or body is None:
            return
        try:
            rest = body.feed(data)
        except BadRequestError as error:
            self._refuse(error.status, str(error))
            return
        if rest is not None:
            self._body = None
            self._buffer += rest
            self._state = _State.ANSWERING
            self._handler.handle(self._admission, head, bytes(body.body), self)

    def _refuse(self, status: int, message: str) -> None:
        """Answer, and take nothing more: where the next request begins is unknown."""
        self._head = None
        self._handler.malformed(status, message, self)

    # Writing answers

    @property
    def closes(self) -> bool:
        """Whether the connection ends after this answer, which then has to say so."""
        head = self._head
        return (
            head is None
            or not head.keep_alive
            or self._state is not _State.ANSWERING
            or self._server.draining
        )

    def respond(self, head: bytes, body: bytes) -> None:
        """A whole answer. `head` is its status line and headers, each with its line end, without framing headers."""
        transport = self._transport
        if transport is None:
            return
        closes = self.closes
        close = b"connection: close\r\n" if closes else b""
        length = len(body)
        if self._head is not None and self._head.method == b"HEAD":
            body = b""
        transport.write(b"%bcontent-length: %d\r\n%b\r\n%b" % (head, length, close, body))
        self._answered(closes=closes)

    def begin(self, head: bytes, first: bytes = b"") -> None:
        """The head of an answer whose length is not known, and the first of its body, if any, in one write."""
        if self._transport is None:
            return
        self._chunked_answer = self._head is not None and not self._head.http_1_0
        framing = b"transfer-encoding: chunked\r\n" if self._chunked_answer else b""
        close = b"connection: close\r\n" if self.closes or not self._chunked_answer else b""
        if first and self._chunked_answer:
            first = self._chunk(first)
        self._transport.write(b"%b%b%b\r\n%b" % (head, framing, close, first))

    def write(self, data: bytes) -> None:
        """Some of the body: not empty."""
        if self._transport is not None:
            self._transport.write(self._chunk(data) if self._chunked_answer else data)

    def _chunk(self, data: bytes) -> bytes:
        size, lines = len(data), self._server.size_lines
        line = lines[size] if size < len(lines) else b"%x\r\n" % size
        return b"".join((line, data, b"\r\n"))

    def end(self, last: bytes = b"") -> None:
        """The last of the body, if any, and its end, in one write."""
        if self._transport is None:
            return
        closes = self.closes or not self._chunked_answer
        if self._chunked_answer:
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n")
        elif last:
            self._transport.write(last)
        self._answered(closes=closes)

    def _answered(self, *, closes: bool) -> None:
        """Go on with the next request, or close."""
        early = self._state is not _State.ANSWERING
        self.session = None
        self._head = self._body = None
        if closes:
            self._buffer.clear()
            if early:
                self._linger()
            else:
                self.close()
            return
        self._state = _State.HEAD
        self._since_s = self._server.clock()
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        if self._buffer:
            # Not from here: a client that pipelines a thousand requests would nest as many calls.
            asyncio.get_running_loop().call_soon(self._next_buffered)

    def _next_buffered(self) -> None:
        if self._state is _State.HEAD and self._buffer:
            self._scanned = 0
            self._since_s = self._server.clock()
            self._read_buffered_head()

    # Ending

    def abort(self) -> None:
        """Close at once: the answer cannot be completed, and must not look as if it were."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close once everything written is sent."""
        self._state = _State.CLOSED
        if self._transport is not None:
            self._transport.close()

    def drain(self) -> None:
        """Close if nothing is under way; else after the present answer."""
        if self._state is _State.HEAD and not self._buffer:
            self.close()

    def _linger(self) -> None:
        """Closing while the client still sends would reset the connection, and it might never read the answer."""
        self._state = _State.LINGERING
        self._since_s = self._server.clock()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.on_client_gone()


def _checked_head(data: bytes, end: int, limits: ClientLimits) -> RequestHead:
    """The head that ends at `end`, -1 where it does not end. Raises BadRequestError."""
    if not 0 <= end <= limits.header_bytes:
        raise BadRequestError(431, f"the request head is larger than {limits.header_bytes} bytes")
    if data.find(b"\r\n", 0, limits.url_bytes + 32) < 0:
        raise BadRequestError(414, f"the request's target is longer than {limits.url_bytes} bytes")
    return parse_head(data[: end + 4], limits.headers)


def _check_sizes(head: RequestHead, limits: ClientLimits) -> None:
    """Raises BadRequestError."""
    if head.size - 4 > limits.header_bytes:
        raise BadRequestError(431, f"the request head is larger than {limits.header_bytes} bytes")
    if head.content_length > limits.body_bytes:
        raise BadRequestError(413, f"the body is larger than {limits.body_bytes} bytes")
