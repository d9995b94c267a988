"""Stands between an operator and the API server: counts its writes, and makes its view as bad as a view can be."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import aiohttp
from aiohttp import web

from pointsman.kube.access import Access

READS = frozenset({"GET", "HEAD"})
HOP_BY_HOP = frozenset(
    {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "accept-encoding"}
)
LEASE = re.compile(r"/leases(/|$)")


@dataclass(slots=True)
class Faults:
    """Shares of what goes wrong, 0 to 1."""

    lost_events: float = 0.0
    stale_lists: float = 0.0
    """Of each kind's first list after a start: what it was at an earlier list."""
    late_events_s: float = 0.0
    """The most that an event is held back."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the API server has done."""

    number: int
    method: str
    path: str


@dataclass(slots=True)
class Proxy:
    """`proxied` makes one."""

    upstream: Access
    session: aiohttp.ClientSession
    rng: Random
    faults: Faults = field(default_factory=Faults)
    writes: list[Write] = field(default_factory=list)
    """Accepted ones; Leases are not counted."""
    after_write: Callable[[Write], None] = lambda _: None
    """Called when the API server has answered and the operator has not yet been told."""
    port: int = 0
    lost: int = 0
    stale: int = 0
    _lists: dict[str, list[bytes]] = field(default_factory=dict)
    _listed: set[str] = field(default_factory=set)

    def begin_life(self) -> None:
        """The operator starts: its first lists may be old ones."""
        self._listed.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        async with self.session.request(
            request.method,
            self.upstream.server + request.path_qs,
            data=body or None,
            headers=headers,
            ssl=self.upstream.tls or True,
        ) as response:
            if "watch" in request.query and response.status == 200:
                return await self._watch(request, response)
            answer = await response.read()
            if request.method not in READS:
                self._count(request, response.status)
            elif response.status == 200 and "limit" in request.query and "continue" not in request.query:
                answer = self._list(str(request.rel_url), answer)
            return web.Response(
                body=answer,
                status=response.status,
                headers={"Content-Type": response.headers.get("Content-Type", "application/json")},
            )

    def _count(self, request: web.Request, status: int) -> None:
        if status < 300 and not LEASE.search(request.path):
            write = Write(len(self.writes) + 1, request.method, request.path)
            self.writes.append(write)
            self.after_write(write)

    def _list(self, url: str, answer: bytes) -> bytes:
        earlier = self._lists.setdefault(url, [])
        first = url not in self._listed
        self._listed.add(url)
        earlier.append(answer)
        if first and len(earlier) > 1 and self.rng.random() < self.faults.stale_lists:
            self.stale += 1
            return self.rng.choice(earlier[-4:-1])
        return answer

    async def _watch(self, request: web.Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
        passed = web.StreamResponse(headers={"Content-Type": "application/json"})
        held = b""
        try:
            await passed.prepare(request)
            async for chunk in response.content.iter_any():
                *lines, held = (held + chunk).split(b"\n")
                for line in lines:
                    if self.rng.random() < self.faults.lost_events:
                        self.lost += 1
                        continue
                    if self.faults.late_events_s:
                        await asyncio.sleep(self.rng.uniform(0.0, self.faults.late_events_s))
                    await passed.write(line + b"\n")
        except (ConnectionError, aiohttp.ClientError):
            pass  # the operator has been killed, or the API server has ended the watch
        return passed


@asynccontextmanager
async def proxied(upstream: Access, rng: Random) -> AsyncIterator[Proxy]:
    """A proxy on loopback, in the network of the thread that makes it."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        proxy = Proxy(upstream, session, rng)
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.port = runner.addresses[0][1]
        try:
            yield proxy
        finally:
            await runner.cleanup()
    for _ in range(3):
        await asyncio.sleep(0)  # aiohttp only begins to close what is under TLS
