"""Connections to one server, kept and used again."""

import asyncio
import ssl
from dataclasses import replace
from functools import partial

from pointsman.http.connection import Connection
from pointsman.http.errors import ExchangeError, Failure
from pointsman.http.exchange import Exchange, Receiver, Timeouts
from pointsman.http.origin import Origin
from pointsman.http.sweeper import Sweeper

DEFAULT_TIMEOUTS = Timeouts()


class Pool:
    """Sends requests to an origin, each on a connection of its own while it lasts.

    Idle connections are used again last in, first out, so that those not needed go quiet and are closed after
    `idle_s`; at most `max_idle` are kept. There is no limit on connections under way: whoever sends limits that.
    A request that was sent on a kept connection, which the server closed before any byte of a response, is sent once
    more on a new connection, unless `resend=False`.
    """

    __slots__ = (
        "_all", "_connecting", "_context", "_idle", "_max_idle", "_sweeper", "authority", "idle_s", "origin", "timeouts",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        sweeper: Sweeper,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 256,
        idle_s: float = 60.0,
    ) -> None:
        if origin.tls and ssl_context is None:
            ssl_context = ssl.create_default_context()
        self.origin = origin
        self.authority = origin.authority.encode()
        """What the Host header of its requests says."""
        self.timeouts = timeouts
        self.idle_s = idle_s
        self._sweeper = sweeper
        self._context = ssl_context if origin.tls else None
        self._max_idle = max_idle
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    def send(
        self,
        head: bytes,
        body: bytes,
        receiver: Receiver,
        *,
        timeouts: Timeouts | None = None,
        resend: bool = True,
    ) -> Exchange:
        """Send a request. `head` is complete, from its first line to the empty one, and fits `body`."""
        now_s = self._sweeper.clock()
        exchange = Exchange(head, body, receiver, timeouts or self.timeouts, now_s, resend=resend)
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.start(exchange, now_s)
                return exchange
        self.connect(exchange)
        return exchange

    def timeouts_until(self, deadline_s: float) -> Timeouts:
        """The pool's own timeouts, with all of an exchange ended by a time on the sweeper's clock."""
        left_s = max(0.0, deadline_s - self._sweeper.clock())
        total_s = self.timeouts.total_s
        return replace(self.timeouts, total_s=left_s if total_s is None else min(left_s, total_s))

    @property
    def connections(self) -> int:
        """Open connections, busy and idle."""
        return len(self._all)

    def close(self) -> None:
        """Close every connection. Exchanges under way fail as closed."""
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._all):
            connection.close()

    # For connections

    def connect(self, exchange: Exchange) -> None:
        """Open a new connection and start the exchange on it."""
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def release(self, connection: Connection) -> None:
        """The connection has become idle."""
        if len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        if connection in self._all:
            self._all.discard(connection)
            self._sweeper.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)

    async def _connect(self, exchange: Exchange) -> None:
        origin = self.origin
        try:
            async with asyncio.timeout(exchange.timeouts.connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    partial(Connection, self),
                    origin.host,
                    origin.port,
                    ssl=self._context,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            exchange.fail(
                ExchangeError(
                    Failure.CONNECT_TIMEOUT,
                    f"{origin.authority}: no connection within {exchange.timeouts.connect_s:g} s",
                )
            )
            return
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
            exchange.fail(ExchangeError(Failure.CONNECT, f"{origin.authority}: {error}"))
            return
        except asyncio.CancelledError:
            exchange.fail(ExchangeError(Failure.CLOSED, f"{origin.authority}: the pool was closed"))
            raise
        if connection.transport is None:  # closed as soon as it was open
            exchange.fail(ExchangeError(Failure.CLOSED, f"{origin.authority}: connection closed at once"))
            return
        self._all.add(connection)
        self._sweeper.add(connection)
        if exchange.receiver is None:  # aborted meanwhile
            self.release(connection)
        else:
            connection.start(exchange, self._sweeper.clock())
