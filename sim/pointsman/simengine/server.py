"""Runs one instance until it is told to stop."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import uvicorn
import uvloop

from pointsman.simengine.app import EngineApp
from pointsman.simengine.errors import ApiError
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.kv_events import KvEventPublisher
from pointsman.simengine.options import ServerOptions
from pointsman.simengine.transfer.exchange import Exchange

_KEEP_ALIVE_S = 5


class _Server(uvicorn.Server):
    """Says when it listens, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@dataclass(slots=True)
class RunningServer:
    """A server that listens."""

    url: str
    app: EngineApp
    instance: SimulatedInstance
    driver: "asyncio.Task[None]"
    """Ends only by an error."""
    _server: _Server

    async def drain(self, grace_s: float) -> None:
        """Refuse new requests and wait for what runs, for `grace_s` real seconds at most; what is left then fails."""
        self.instance.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.instance.idle.wait()
        self.instance.fail_all(ApiError(500, "InternalServerError", "The instance was stopped."))

    def stop_now(self) -> None:
        """Close every connection without waiting for it."""
        self._server.should_exit = self._server.force_exit = True


@contextlib.asynccontextmanager
async def running(options: ServerOptions) -> AsyncIterator[RunningServer]:
    """An instance that serves until the block is left. Raises OSError when the address cannot be had."""
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(_listen(options.host, options.port)))
        instance = SimulatedInstance(options)
        exchange = Exchange(instance)
        await exchange.open()
        stack.push_async_callback(exchange.close)
        if options.kv_events is not None:
            events = KvEventPublisher(instance, options.kv_events)
            stack.push_async_callback(events.close)
        app = EngineApp(options, instance, exchange)
        server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        driver = asyncio.create_task(instance.driver.run())
        stack.push_async_callback(_end_driver, driver)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stack.push_async_callback(_stop, server, serving)
        await server.listening.wait()
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        yield RunningServer(url, app, instance, driver, server)


async def _stop(server: _Server, serving: "asyncio.Task[None]") -> None:
    server.should_exit = True
    await serving


async def _end_driver(driver: "asyncio.Task[None]") -> None:
    """An engine loop that broke is nothing to hide."""
    driver.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await driver


async def serve(options: ServerOptions, grace_s: float, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then finish what runs, for `grace_s` real seconds at most; a second signal
    stops at once. `on_ready` gets the URL. Raises OSError when the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    async with running(options) as server:

        def on_signal() -> None:
            if signalled.is_set():
                server.stop_now()
                server.instance.idle.set()
            signalled.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, on_signal)
        on_ready(server.url)
        told = asyncio.create_task(signalled.wait())
        await asyncio.wait((told, server.driver), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not server.driver.done():
            await server.drain(grace_s)


def run(options: ServerOptions, grace_s: float, on_ready: Callable[[str], None]) -> None:
    """`serve` on an event loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, grace_s, on_ready))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
