"""The fake API server's HTTP: lists in pages, watches with bookmarks, writes; and its faults."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fakekube.storage import Happened, Object, RefusalError, Storage


@dataclass(slots=True)
class Faults:
    """What goes wrong from now on."""

    lose_events: bool = False
    """What happens reaches no watch that is open."""
    failures: list[int] = field(default_factory=list)
    """Status of the next answers, one each."""
    hang: bool = False
    """Take requests and never answer; open watches stay silent."""
    end_watches_at_once: bool = False
    absent: set[str] = field(default_factory=set)
    """Collections whose kind is not installed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was taken."""

    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: Any = None

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


class FakeKube:
    """A running server. `fake_kube` makes one."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.before_write: Callable[[Request], None] = lambda _: None
        """Called before a write is done; a RefusalError that it raises is the answer."""
        self.after_write: Callable[[Request], None] = lambda _: None
        self.bookmark_s = 0.05
        self.url = ""
        self._open: list[web.Request] = []
        self._never = asyncio.Event()
        self._snapshots: dict[str, tuple[list[Object], int]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def watches(self) -> int:
        """Open now."""
        return len(self._open)

    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]

    def cut_connections(self) -> None:
        """End every open watch as a dying proxy would: mid-stream, without a last chunk."""
        for request in tuple(self._open):
            if request.transport is not None:
                request.transport.abort()

    def forget_pages(self) -> None:
        """What is asked for with a `continue` from before is told 410."""
        self._snapshots.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        taken = Request(
            request.method,
            request.path,
            dict(request.query),
            request.headers.get("Authorization", ""),
            json.loads(raw) if raw else None,
        )
        self.requests.append(taken)
        if self.faults.hang:
            await self._never.wait()
        try:
            return await self._answer(request, taken)
        except RefusalError as refusal:
            return web.json_response(refusal.status(), status=refusal.code)

    async def _answer(self, request: web.Request, taken: Request) -> web.StreamResponse:
        if self.faults.failures:
            raise RefusalError(self.faults.failures.pop(0), "Wanted", "this failure was asked for")
        discovered = _discovery(request.path)
        if discovered is not None:
            return web.json_response(discovered)
        collection, namespace, name, subresource = _place(request.path)
        if collection in self.faults.absent:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        if request.method == "GET":
            if name:
                return web.json_response(self.storage.get(collection, namespace, name))
            if "watch" in request.query:
                return await self._watch(request, collection, namespace)
            return web.json_response(self._list(request, collection, namespace))
        self.before_write(taken)
        answer = self._write(taken, request.content_type, collection, namespace, name, subresource)
        self.after_write(taken)
        return web.json_response(answer, status=201 if request.method == "POST" else 200)

    def _list(self, request: web.Request, collection: str, namespace: str) -> Object:
        token = request.query.get("continue", "")
        if token:
            snapshot, _, begin_text = token.partition(":")
            if snapshot not in self._snapshots:
                raise RefusalError(410, "Expired", "the provided continue parameter is too old")
            (items, version), begin = self._snapshots[snapshot], int(begin_text)
        else:
            version, begin = self.storage.version, 0
            items = [obj for obj in self.storage.all(collection, namespace) if _selected(request, obj)]
            snapshot = str(len(self._snapshots))
            self._snapshots[snapshot] = (items, version)
        end = begin + int(request.query.get("limit", "0") or 0) if "limit" in request.query else len(items)
        metadata: Object = {"resourceVersion": str(version)}
        if end < len(items):
            metadata["continue"] = f"{snapshot}:{end}"
        # As Kubernetes does, items of a list say neither kind nor version.
        page = [
            {name: value for name, value in item.items() if name not in ("kind", "apiVersion")}
            for item in items[begin:end]
        ]
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page}

    async def _watch(self, request: web.Request, collection: str, namespace: str) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since < self.storage.compacted:
            raise RefusalError(410, "Expired", f"too old resource version: {since}")
        queue: asyncio.Queue[Happened] = asyncio.Queue()

        def take(event: Happened) -> None:
            metadata = event.object["metadata"]
            if event.collection != collection or (namespace and metadata.get("namespace") != namespace):
                return
            queue.put_nowait(event)

        for event in self.storage.history:
            if event.version > since:
                take(event)

        def live(event: Happened) -> None:
            if self.faults.lose_events:
                return
            take(event)

        self.storage.on_event.append(live)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._open.append(request)
        try:
            await response.prepare(request)
            if self.faults.end_watches_at_once:
                return response
            async with _deadline(float(request.query.get("timeoutSeconds", "300"))):
                await self._send(request, response, queue)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._open.remove(request)
            self.storage.on_event.remove(live)
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, queue: asyncio.Queue[Happened]
    ) -> None:
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), self.bookmark_s)
            except TimeoutError:
                if not self.faults.hang and "allowWatchBookmarks" in request.query and queue.empty():
                    mark = {"metadata": {"resourceVersion": str(self.storage.version)}}
                    await _line(response, "BOOKMARK", mark)
                continue
            while self.faults.hang:
                await asyncio.sleep(0.01)
            if not _selected(request, event.object):
                # Kubernetes tells a watch with a selector that what no longer matches is deleted.
                if event.type == "MODIFIED":
                    await _line(response, "DELETED", event.object)
                continue
            await _line(response, event.type, event.object)

    def _write(
        self, taken: Request, content_type: str, collection: str, namespace: str, name: str, subresource: str
    ) -> Object:
        body = taken.body
        if taken.method == "POST":
            return self.storage.create(collection, body)
        if taken.method == "PUT":
            return self.storage.update(collection, body)
        if taken.method == "DELETE":
            uid = ((body or {}).get("preconditions") or {}).get("uid")
            return self.storage.delete(collection, namespace, name, uid)
        if content_type == "application/apply-patch+yaml":
            return self.storage.apply(
                collection,
                body,
                taken.query["fieldManager"],
                subresource=subresource,
                force=taken.query.get("force") == "true",
            )
        return self.storage.merge(collection, namespace, name, body)


@asynccontextmanager
async def fake_kube(port: int = 0) -> AsyncIterator[FakeKube]:
    """A fake API server on loopback while the block runs."""
    fake = FakeKube()
    await fake.start(port)
    try:
        yield fake
    finally:
        await fake.stop()


@contextlib.contextmanager
def lost_events(fake: FakeKube) -> Iterator[None]:
    """What happens in the block reaches no watch."""
    fake.faults.lose_events = True
    try:
        yield
    finally:
        fake.faults.lose_events = False


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


async def _line(response: web.StreamResponse, kind: str, obj: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")


def _place(path: str) -> tuple[str, str, str, str]:
    """Collection, namespace, name and subresource."""
    parts = path.strip("/").split("/")
    head = 2 if parts[0] == "api" else 3
    prefix, rest = parts[:head], parts[head:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    collection = "/" + "/".join([*prefix, rest[0]])
    return collection, namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""


def _selected(request: web.Request, obj: Object) -> bool:
    labels = obj["metadata"].get("labels") or {}
    for term in filter(None, request.query.get("labelSelector", "").split(",")):
        name, equals, value = term.partition("=")
        if (labels.get(name) != value.lstrip("=")) if equals else name not in labels:
            return False
    return True


KINDS = {"modelservices": "ModelService", "instancepools": "InstancePool"}


def _discovery(path: str) -> Object | None:
    """What kinds there are, as far as kopf asks."""
    version = {"groupVersion": "pointsman.io/v1alpha1", "version": "v1alpha1"}
    match path:
        case "/api":
            return {"versions": []}
        case "/apis":
            return {"groups": [{"name": "pointsman.io", "versions": [version], "preferredVersion": version}]}
        case "/apis/pointsman.io/v1alpha1":
            verbs = ["get", "list", "watch", "patch"]
            kinds = [
                {"name": plural, "singularName": "", "kind": kind, "namespaced": True, "verbs": verbs}
                for plural, kind in KINDS.items()
            ]
            return {"resources": kinds}
    return None
