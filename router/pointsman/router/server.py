"""The listening socket of the public port, and the connections it has."""

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial

from pointsman.http.sweeper import Sweeper
from pointsman.router.front import ClientConnection, Handler
from pointsman.router.settings import ClientLimits, ClientTimeouts

ACCEPT_BACKLOG = 4096
"""Connections the kernel holds for us. The usual 100 overflows in an accept storm, and each client whose first packet
is dropped comes back a second later."""


READY_SIZES = 1024
"""Sizes of chunks, in bytes, whose line is written in advance: most chunks bring one token."""


class PublicServer:
    """Accepts clients until it drains. `limits` and `timeouts` may be replaced at any time."""

    def __init__(
        self,
        handler: Handler,
        limits: ClientLimits,
        timeouts: ClientTimeouts,
        sweeper: Sweeper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.timeouts = timeouts
        self.clock = clock
        self.draining = False
        self.size_lines = [b"%x\r\n" % size for size in range(READY_SIZES)]
        self._sweeper = sweeper
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> int:
        """Start accepting. Returns the port, chosen by the system where `port` is 0. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            partial(ClientConnection, self), host, port, ssl=ssl_context, backlog=ACCEPT_BACKLOG
        )
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def drain(self, grace_s: float) -> None:
        """Accept nobody any more, let answers under way end, and cut off those that have not after `grace_s`."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace_s):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()

    # For connections

    def opened(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self._sweeper.add(connection)
        if len(self._connections) > self.limits.connections or self.draining:
            connection.abort()

    def closed(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self._sweeper.discard(connection)
        if not self._connections:
            self._empty.set()


async def serve_public(
    handler: Handler,
    host: str,
    port: int,
    *,
    limits: ClientLimits,
    timeouts: ClientTimeouts,
    sweeper: Sweeper,
    ssl_context: ssl.SSLContext | None = None,
) -> tuple[PublicServer, int]:
    """A listening server and its port. Raises OSError."""
    server = PublicServer(handler, limits, timeouts, sweeper)
    return server, await server.listen(host, port, ssl_context)
