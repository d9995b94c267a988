"""The few parts of HTTP that the server needs, straight on ASGI: a request, answers, a routing table."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from pointsman.simengine.errors import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_MAX_BODY_BYTES = 64 << 20


class ClientLeftError(Exception):
    """The client closed its connection before it had its answer."""


class Request:
    """One HTTP exchange."""

    __slots__ = ("_receive", "_send", "headers", "method", "path", "query", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.started = False

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter."""
        values = parse_qs(self.query.decode("latin-1")).get(name)
        return values[0] if values else None

    async def body(self) -> bytes:
        """The whole body. Raises ApiError 413 beyond 64 MiB, ClientLeftError when the client leaves."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeftError
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > _MAX_BODY_BYTES:
                raise ApiError(413, "Request Entity Too Large", f"body exceeds {_MAX_BODY_BYTES} bytes")
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def disconnected(self) -> None:
        """Returns when the client has left, or has its whole answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        fields = [(b"content-length", b"%d" % len(body)), *headers]
        if content_type:
            fields.append((b"content-type", content_type))
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    async def answer_json(self, value: object, status: int = 200) -> None:
        await self.answer(status, value if isinstance(value, bytes) else orjson.dumps(value), _JSON[1])

    async def start_events(self) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [_EVENTS]})

    async def send_events(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Outbox:
    """Bytes for one stream: written by the engine's driver at once, taken by the connection when it can."""

    __slots__ = ("_parts", "_waiter", "closed")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    def put(self, data: bytes) -> None:
        """Nothing any more once it is closed."""
        if self.closed:
            return
        self._parts.append(data)
        self._wake()

    def close(self) -> None:
        """Nothing follows."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> bytes:
        """Everything written since the last call, waiting for something; empty when closed."""
        if not self._parts and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        data = b"".join(self._parts)
        self._parts.clear()
        return data


Handler = Callable[[Request], Awaitable[None]]


class Routes:
    """Exact paths to handlers."""

    def __init__(self) -> None:
        self._handlers: dict[str, dict[str, Handler]] = {}

    def add(self, methods: str, path: str, handler: Handler) -> None:
        """`methods`: one or more, space-separated."""
        for method in methods.split():
            self._handlers.setdefault(path, {})[method] = handler

    def find(self, method: str, path: str) -> Handler | int:
        """A handler, or the status that says why there is none."""
        handlers = self._handlers.get(path)
        if handlers is None:
            return 404
        return handlers.get(method, 405)

    def allowed(self, path: str) -> bytes:
        """The methods of a path, as the `allow` header lists them."""
        return ", ".join(self._handlers[path]).encode()
