"""The admin port: life signs and metrics for everyone who reaches it, `/admin/*` for those with the token.

GET  /health                      200 while the process answers
GET  /ready                       200 while new requests should be sent here, else 503
GET  /metrics                     Prometheus text
GET  /admin/instances             every instance with what is known of it
POST /admin/instances/drain       {"url": ...}: nothing new is placed there
POST /admin/instances/resume      {"url": ...}: placements go there again
GET  /admin/view                  loads as decisions see them
GET  /admin/config                the configuration in force
POST /admin/reload                read the file again now
PUT  /admin/log-level             {"level": "debug"}
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, bytes]
"""Status, content type, body."""

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
MAX_BODY_BYTES = 64 * 1024


class Administered(Protocol):
    """What the admin port shows and steers."""

    def ready(self) -> str:
        """Empty when new requests should be sent here, else why not."""

    def discovered(self) -> dict[str, Any] | None:
        """What is served of what the cluster says; None: no cluster is followed."""

    async def metrics(self) -> bytes: ...
    def instances(self) -> list[dict[str, Any]]: ...
    def view(self) -> dict[str, Any]: ...
    def config(self) -> dict[str, Any]: ...
    async def reload(self) -> str:
        """Empty when the file was accepted, else what is wrong with it."""

    def drain_instance(self, url: str, *, draining: bool) -> bool:
        """Whether there is such an instance."""


class _AnswerError(Exception):
    """Answers at once."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AdminApp:
    """An ASGI application."""

    def __init__(self, administered: Administered, token: bytes | None) -> None:
        self._administered = administered
        self._token = token
        self._shown: Mapping[str, Callable[[], Awaitable[Answer]]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/admin/instances": self._instances,
            "/admin/view": self._view,
            "/admin/config": self._config,
        }
        self._changes: Mapping[tuple[str, str], Callable[[bytes], Awaitable[Answer]]] = {
            ("POST", "/admin/instances/drain"): self._drain,
            ("POST", "/admin/instances/resume"): self._resume,
            ("POST", "/admin/reload"): self._reload,
            ("PUT", "/admin/log-level"): self._log_level,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, kind, body = await self._answer(scope, receive)
        except _AnswerError as error:
            status, kind, body = error.status, JSON, orjson.dumps({"error": str(error)})
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        if path.startswith("/admin/"):
            self._authorize(headers)
        if path in self._shown and method in {"GET", "HEAD"}:
            return await self._shown[path]()
        change = self._changes.get((method, path))
        if change is not None:
            return await change(await _body(headers, receive))
        allowed = ["GET"] if path in self._shown else [known for known, at in self._changes if at == path]
        if allowed:
            raise _AnswerError(405, f"use {' or '.join(allowed)} here")
        raise _AnswerError(404, "there is nothing here; see /health, /ready, /metrics, /admin/instances")

    def _authorize(self, headers: Mapping[bytes, bytes]) -> None:
        if self._token is None:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            raise _AnswerError(
                401, "the admin token is needed: send the header 'Authorization: Bearer TOKEN'"
            )

    async def _health(self) -> Answer:
        return 200, TEXT, b"ok\n"

    async def _ready(self) -> Answer:
        why = self._administered.ready()
        discovered = self._administered.discovered()
        if discovered is not None:
            told = {"ready": not why, **({"why": why} if why else {}), **discovered}
            return (503 if why else 200), JSON, orjson.dumps(told)
        return (503, TEXT, why.encode() + b"\n") if why else (200, TEXT, b"ready\n")

    async def _metrics(self) -> Answer:
        return 200, PROMETHEUS, await self._administered.metrics()

    async def _instances(self) -> Answer:
        return 200, JSON, orjson.dumps({"instances": self._administered.instances()})

    async def _view(self) -> Answer:
        return 200, JSON, orjson.dumps(self._administered.view())

    async def _config(self) -> Answer:
        return 200, JSON, orjson.dumps(self._administered.config())

    async def _drain(self, body: bytes) -> Answer:
        return self._set_draining(body, draining=True)

    async def _resume(self, body: bytes) -> Answer:
        return self._set_draining(body, draining=False)

    def _set_draining(self, body: bytes, *, draining: bool) -> Answer:
        url = _field(body, "url")
        if not self._administered.drain_instance(url.rstrip("/"), draining=draining):
            raise _AnswerError(404, f"no instance {url}; GET /admin/instances lists them")
        return 200, JSON, orjson.dumps({"url": url, "draining": draining})

    async def _reload(self, body: bytes) -> Answer:
        if body not in {b"", b"{}"}:
            raise _AnswerError(422, "nothing can be said here: the router reads the file it was started with")
        if problems := await self._administered.reload():
            raise _AnswerError(422, problems)
        return 200, JSON, b'{"reloaded":true}'

    async def _log_level(self, body: bytes) -> Answer:
        level = _field(body, "level").upper()
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise _AnswerError(422, "level: must be debug, info, warning or error")
        logging.getLogger("pointsman").setLevel(level)
        return 200, JSON, orjson.dumps({"level": level.lower()})


async def _body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The body of a request that changes something.

    Only JSON: a page in a browser on this machine cannot send that to another origin without asking first.
    """
    if not headers.get(b"content-type", b"").startswith(JSON):
        raise _AnswerError(415, "send the header 'Content-Type: application/json'")
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise _AnswerError(413, f"more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _field(body: bytes, name: str) -> str:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _AnswerError(400, f"the body is no JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get(name), str):
        raise _AnswerError(422, f"the body must be an object with the text field {name!r}")
    return str(value[name])


class AdminServer(uvicorn.Server):
    """uvicorn inside our loop; signals are the router's own affair."""

    def __init__(self, app: AdminApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                interface="asgi3",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
