"""A server that does exactly what a test says, byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from pointsman.http.client import Origin, Sweeper

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[Origin]]


@pytest.fixture
async def sweeper() -> AsyncIterator[Sweeper]:
    sweeper = Sweeper(interval_s=0.01)
    yield sweeper
    sweeper.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers: every connection runs the given handler and is closed after it."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, **options: object) -> Origin:
            handlers: set[asyncio.Task[None]] = set()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                handlers.add(task)
                try:
                    await handler(reader, writer)
                except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    pass
                finally:
                    handlers.discard(task)
                    writer.close()

            server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)  # type: ignore[arg-type]

            async def stop() -> None:
                server.close()
                for task in tuple(handlers):
                    task.cancel()
                await asyncio.sleep(0)

            stack.push_async_callback(stop)
            return Origin("127.0.0.1", server.sockets[0].getsockname()[1], tls="ssl" in options)

        yield start


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
