"""The whole data path on loopback: real clients, the real brain and fleet, and engines that do what a test says."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import uvloop

from pointsman.api.router_config import RouterConfig
from pointsman.http.client import Origin, Pool, Response, Sweeper, request
from pointsman.router.brain import Brain
from pointsman.router.fleet import Fleet
from pointsman.router.gateway import Gateway
from pointsman.router.metrics import RouterMetrics
from pointsman.router.prompts import PromptReader
from pointsman.router.server import PublicServer, serve_public
from pointsman.router.settings import rules_of, settings_of
from pointsman.router.tenants import Tenants

MODEL = "m"


@dataclass
class Received:
    """One request as an engine got it."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = orjson.loads(self.raw)
        return parsed


Script = Callable[["Engine", Received, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind.encode(),
        len(body),
        body,
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    """An event of a chat stream."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "x", "model": MODEL, "choices": [choice], **more}) + b"\n\n"


USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


async def well_behaved(engine: "Engine", got: Received, writer: asyncio.StreamWriter) -> None:
    """Three tokens; KV parameters where they are asked for; usage where it is."""
    body = got.body
    if body.get("stream"):
        events = [event("a"), event("b"), event("c", "stop")]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(USAGE)
        writer.write(STREAM_HEAD)
        for one in (*events, DONE):
            writer.write(chunk(one))
            await writer.drain()
        writer.write(chunk(b""))
        return
    answer: dict[str, Any] = {
        "id": "x",
        "model": body["model"],
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "abc"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
    if (body.get("kv_transfer_params") or {}).get("do_remote_decode"):
        answer["kv_transfer_params"] = {"remote_block_ids": [1, 2], "remote_engine_id": engine.name}
    writer.write(http(200, orjson.dumps(answer)))


@dataclass
class Engine:
    """Runs its script for every request, and remembers them. A connection that the router closes sets `left`."""

    name: str
    script: Script = well_behaved
    received: list[Received] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    connections: int = 0
    stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _answer(
        self, got: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Run the script until it ends, or the router leaves."""
        gone = asyncio.ensure_future(reader.read(1))
        running = asyncio.ensure_future(self.script(self, got, writer))
        try:
            await asyncio.wait({gone, running}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self.left.set()
                raise ConnectionResetError
        finally:
            for task in (gone, running):
                task.cancel()
            await asyncio.gather(gone, running, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head[:-4].decode().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                }
                raw = await reader.readexactly(int(headers.get("content-length", "0")))
                got = Received(first.split(" ")[1], headers, raw)
                self.received.append(got)
                await self._answer(got, reader, writer)
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.close()


@dataclass
class Router:
    """A running data path."""

    server: PublicServer
    gateway: Gateway
    brain: Brain
    fleet: Fleet
    metrics: RouterMetrics
    prompts: PromptReader
    tenants: Tenants
    config: RouterConfig
    origin: Origin
    pool: Pool

    def reload(self, **config: Any) -> None:
        """Another configuration, as far as the data path reads it."""
        changed = RouterConfig.model_validate({**self.config.model_dump(), **config})
        self.tenants.apply(changed)
        self.gateway.apply(settings_of(changed))

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Response:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return await request(self.pool, "POST", path, headers=(headers or {}).items(), body=raw)

    async def chat(self, headers: dict[str, str] | None = None, **fields: Any) -> Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}
        return await self.post("/v1/chat/completions", body, headers)

    def outcomes(self) -> dict[tuple[int, str], int]:
        return self.metrics.model(MODEL).outcomes

    @property
    def placed(self) -> int:
        """Requests that the brain believes to be on instances."""
        return sum(self.brain.cluster.loads.running)


StartEngine = Callable[..., Awaitable[Engine]]
StartRouter = Callable[..., Awaitable[Router]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the router runs on: its transports differ from asyncio's in when they write, pause and close."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def engine(stack: AsyncExitStack) -> StartEngine:
    """Starts engines."""

    async def start(script: Script = well_behaved, name: str = "e", port: int = 0) -> Engine:
        engine = Engine(name, script)
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await engine.serve(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", port)
        engine.port = server.sockets[0].getsockname()[1]

        def stop() -> None:
            server.close()
            for task in tuple(tasks):
                task.cancel()

        async def stopped() -> None:
            stop()
            await asyncio.sleep(0.01)

        engine.stop = stop
        stack.push_async_callback(stopped)
        return engine

    return start


@pytest.fixture
def router(stack: AsyncExitStack) -> StartRouter:
    """Starts routers over engines, of these roles and with this configuration."""

    async def start(
        *engines: Engine,
        roles: list[str] | None = None,
        connector: str = "none",
        model: dict[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
        **config: Any,
    ) -> Router:
        instances = [
            {"url": one.url, "role": role, "connector": connector}
            for one, role in zip(engines, roles or ["mixed"] * len(engines), strict=True)
        ]
        served = {"name": MODEL, "instances": instances, "policy": "round_robin", **(model or {})}
        return await compose(stack, RouterConfig.model_validate({"models": [served], **config}), tls)

    return start


async def compose(stack: AsyncExitStack, config: RouterConfig, tls: ssl.SSLContext | None) -> Router:
    sweeper = Sweeper(interval_s=0.01)
    stack.callback(sweeper.close)
    metrics = RouterMetrics(model.name for model in config.models)
    prompts = PromptReader(b"k" * 32, 64, 0.25, metrics.estimate_error)
    brain = Brain(rules_of(config), sweeper.clock, random.Random(1))
    fleet = Fleet(brain, sweeper, lambda instance: 0, lambda address: None)
    fleet.apply(config, None)
    stack.callback(fleet.close)
    for member in fleet.members():
        fleet.alive(member)
    settings = settings_of(config)
    tenants = Tenants(config, metrics.clamped)
    gateway = Gateway(
        brain, fleet, tenants, prompts, metrics, settings, clock=sweeper.clock, rng=random.Random(2)
    )
    server, port = await serve_public(
        gateway,
        "127.0.0.1",
        0,
        limits=settings.limits,
        timeouts=settings.client_timeouts,
        sweeper=sweeper,
        ssl_context=tls,
    )
    origin = Origin("127.0.0.1", port)
    pool = Pool(origin, sweeper)

    async def stop() -> None:
        pool.close()
        await server.drain(0.0)
        await asyncio.sleep(0)

    stack.push_async_callback(stop)
    return Router(server, gateway, brain, fleet, metrics, prompts, tenants, config, origin, pool)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
