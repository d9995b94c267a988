"""The few calls that Pointsman makes to an API server, over aiohttp.

Not the generated client: docs/design/kubernetes-client.md says what that one costs and this one leaves out.
"""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakSet

import aiohttp
import orjson

from pointsman.kube.access import Access
from pointsman.kube.errors import AccessError, UnreachableError, error_of
from pointsman.kube.resource import Object, Resource, key_of

PAGE = 500
"""Objects per page of a list, as kubectl asks for."""
REQUEST_TIMEOUT_S = 30.0
TOKEN_AGE_S = 60.0
"""client-go reads a projected token again after as long."""
CLOSING_PASSES = 50
"""Of the event loop, for connections to close that nobody waits for; they need five."""
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Of one watch event; etcd refuses objects above 1.5 MiB."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: EventType
    object: Object
    """For a bookmark only its `metadata.resourceVersion` says something."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A collection as it was at one version."""

    items: list[Object]
    version: str


@dataclass(frozen=True, slots=True)
class Call:
    """One answered or failed request, for metrics; a watch is reported when it has begun."""

    verb: str
    """As in RBAC."""
    resource: Resource
    subresource: str
    status: int
    """0: no answer."""
    duration_s: float


class ApiClient:
    """An API server. Use as an async context manager; every call raises KubeError's kinds, and nothing is retried."""

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str = "pointsman",
        clock: Callable[[], float] = time.monotonic,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        self.access = access
        self._user_agent = user_agent
        self._clock = clock
        self._on_call = on_call
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._token = access.token
        self._token_read_s: float | None = None

    async def __aenter__(self) -> Self:
        # Watches and lists of several kinds live side by side on connections of their own.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, socket_factory=self._socket)
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": self._user_agent, "Accept": "application/json"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            if self._session.connector is not None:
                # Else transports under TLS outlive the session: their shutdown waits for the server.
                await self._session.connector.close(abort_ssl=True)
            await self._session.close()
            await self._hang_up()

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*address[:3])
        self._sockets.add(made)
        return made

    async def _hang_up(self) -> None:
        """End what the session knows no more: under TLS whoever was cancelled says goodbye and waits for the answer.

        In this loop's next passes, for they may be its last.
        """
        for connection in self._sockets:
            with suppress(OSError):  # it was never connected, or has ended
                connection.shutdown(socket.SHUT_RDWR)
        for _ in range(CLOSING_PASSES):
            if all(connection.fileno() < 0 for connection in self._sockets):
                return
            await asyncio.sleep(0)

    def session_for_others(self) -> aiohttp.ClientSession:
        """A session with the credentials of this moment, for a library with calls of its own; the caller closes it.

        Raises AccessError.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.access.tls or True),
            headers={"User-Agent": self._user_agent, **self._headers()},
        )

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._call("get", "GET", resource, namespace, name)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        selector: str = "",
        page: int = PAGE,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Listing:
        """Everything at one version: pages of one snapshot, the newest there is when the first is asked for.

        Raises ExpiredError where the snapshot was dropped between pages: then begin again.
        """
        items: list[Object] = []
        token = ""
        while True:
            query = {"limit": str(page)}
            if selector:
                query["labelSelector"] = selector
            if token:
                query["continue"] = token
            answer = await self._call("list", "GET", resource, namespace, query=query, timeout_s=timeout_s)
            # Items of a list lack what the list itself says.
            items += [
                {"apiVersion": resource.api_version, "kind": resource.kind, **item}
                for item in answer.get("items") or ()
            ]
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return Listing(items, metadata.get("resourceVersion", ""))

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        version: str,
        selector: str = "",
        timeout_s: float,
        idle_s: float,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events after `version`, until the server ends the watch, which it is asked to do after `timeout_s`.

        Raises ExpiredError when the version is too old, UnreachableError when the connection breaks or nothing, not
        even a bookmark, came for `idle_s`. Close the iterator (contextlib.aclosing).
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        if selector:
            query["labelSelector"] = selector
        path = resource.path(namespace)
        call = f"watch {path}"
        timeout = aiohttp.ClientTimeout(total=None, connect=REQUEST_TIMEOUT_S, sock_read=idle_s)
        began_s = self._clock()
        status = 0
        try:
            async with self._http().get(
                self.access.server + path,
                params=query,
                headers=self._headers(),
                timeout=timeout,
                ssl=self.access.tls or True,
            ) as response:
                status = response.status
                if status != HTTPStatus.OK:
                    self._token_read_s = None
                    raise error_of(call, status, _json(await response.read()))
                self._report("watch", resource, "", status, began_s)
                async with aclosing(_lines(response.content)) as lines:
                    async for line in lines:
                        yield _event(call, line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if status == 0:
                self._report("watch", resource, "", 0, began_s)
            raise UnreachableError(f"{call}: {_why(error)}") from error

    async def create(self, resource: Resource, obj: Object, *, manager: str) -> Object:
        """Raises ConflictError where it exists."""
        namespace = key_of(obj).namespace
        return await self._call(
            "create", "POST", resource, namespace, body=obj, query={"fieldManager": manager}
        )

    async def update(self, resource: Resource, obj: Object, *, manager: str) -> Object:
        """Replace an object that still has the given `metadata.resourceVersion`; else raises ConflictError."""
        key = key_of(obj)
        return await self._call(
            "update", "PUT", resource, key.namespace, key.name, body=obj, query={"fieldManager": manager}
        )

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str,
        force: bool = True,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: the object holds exactly the fields that `manager` wants to own.

        Raises ConflictError when another manager owns one of them with another value and `force` is off, or where
        the object names a UID that is not the live one's.
        """
        key = key_of(obj)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        return await self._call(
            "patch", "PATCH", resource, key.namespace, key.name, subresource, obj, query, content_type=APPLY
        )

    async def merge(
        self,
        resource: Resource,
        patch: Object,
        name: str,
        namespace: str = "",
        *,
        manager: str,
        subresource: str = "",
        uid: str | None = None,
    ) -> Object:
        """JSON merge patch (RFC 7396), only if the object still has this UID: another one raises ConflictError."""
        body = dict(patch)
        if uid is not None:
            body["metadata"] = {**(patch.get("metadata") or {}), "uid": uid}
        return await self._call(
            "patch",
            "PATCH",
            resource,
            namespace,
            name,
            subresource,
            body,
            {"fieldManager": manager},
            content_type=MERGE,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> Object:
        """Delete an object, only if it is still the one with this UID: another one raises ConflictError.

        What is returned is the object where it still ends (finalizers, foreground), else a Status.
        """
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self._call("delete", "DELETE", resource, namespace, name, body=options)

    async def _call(
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        call = f"{verb} {path}"
        headers = self._headers()
        if body is not None:
            headers["Content-Type"] = content_type
        began_s = self._clock()
        status = 0
        try:
            async with self._http().request(
                method,
                self.access.server + path,
                params=query,
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                ssl=self.access.tls or True,
            ) as response:
                raw = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{call}: {_why(error)}") from error
        finally:
            self._report(verb, resource, subresource, status, began_s)
        answer = _json(raw)
        if status >= HTTPStatus.BAD_REQUEST:
            if status == HTTPStatus.UNAUTHORIZED:
                self._token_read_s = None  # it may just have been replaced
            raise error_of(call, status, answer)
        if not isinstance(answer, Mapping):
            raise UnreachableError(f"{call}: the answer is no JSON object; is this an API server?")
        return answer

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("ApiClient is used outside of its context")
        return self._session

    def _headers(self) -> dict[str, str]:
        file = self.access.token_file
        if file is not None:
            now_s = self._clock()
            if self._token_read_s is None or now_s - self._token_read_s > TOKEN_AGE_S:
                try:
                    self._token = file.read_text().strip()
                except OSError as error:
                    raise AccessError(f"the token cannot be read: {error}") from error
                self._token_read_s = now_s
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _report(self, verb: str, resource: Resource, subresource: str, status: int, began_s: float) -> None:
        if self._on_call is not None:
            self._on_call(Call(verb, resource, subresource, status, self._clock() - began_s))


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    # aiohttp's own readline refuses lines above 128 KiB, and a Pod may be larger.
    held = bytearray()
    async for chunk in content.iter_any():
        held += chunk
        begin = 0
        while (end := held.find(b"\n", begin)) >= 0:
            if end > begin:
                yield bytes(held[begin:end])
            begin = end + 1
        del held[:begin]
        if len(held) > MAX_LINE_BYTES:
            raise aiohttp.ClientPayloadError(f"a watch event is longer than {MAX_LINE_BYTES} bytes")
    if held:
        raise aiohttp.ClientPayloadError("the watch ended within an event")


def _event(call: str, line: bytes) -> WatchEvent:
    event = _json(line)
    if not isinstance(event, Mapping) or not isinstance(event.get("object"), Mapping):
        raise UnreachableError(f"{call}: what came is no watch event; is this an API server?")
    kind, obj = event.get("type"), event["object"]
    if kind == "ERROR":
        raise error_of(call, int(obj.get("code") or 0), obj)
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise UnreachableError(f"{call}: unknown event type {kind!r}")
    return WatchEvent(kind, obj)


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None  # a proxy's page; the status says enough


def _why(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError | aiohttp.ServerTimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
