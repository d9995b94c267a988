"""Real servers on loopback, with a fast profile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import pytest

from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.simengine.options import ServerOptions
from pointsman.simengine.server import RunningServer, running

PROFILE = EngineProfile(
    name="test",
    model="tiny",
    engine="vllm",
    accelerator="test",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(t0_ps=2_000_000_000, tp_ps=1_000_000, ta_ps=0, tb_ps=1_000_000, tc_ps=0),
    kv_capacity_tokens=16_384,
    kv_bytes_per_token=1_000,
    transfer_bytes_per_s=1e9,
)


class Client:
    """Talks to one server."""

    def __init__(self, server: RunningServer, http: httpx.AsyncClient) -> None:
        self.server = server
        self.http = http

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def complete(self, **body: Any) -> dict[str, Any]:
        response = await self.post("/v1/completions", **body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def chat(self, **body: Any) -> dict[str, Any]:
        response = await self.post("/v1/chat/completions", **body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def events(self, path: str, **body: Any) -> list[Any]:
        """The events of a stream, parsed; `[DONE]` as a string."""
        found: list[Any] = []
        async with self.http.stream("POST", path, json={**body, "stream": True}) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            async for line in response.aiter_lines():
                if line:
                    data = line.removeprefix("data: ")
                    found.append(data if data == "[DONE]" else orjson.loads(data))
        return found


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers; options as keywords."""
    async with AsyncExitStack() as stack:

        async def start_one(**options: Any) -> Client:
            defaults = {"profile": PROFILE, "model": "tiny", "served_names": ("tiny", "alias"), "port": 0}
            server = await stack.enter_async_context(running(ServerOptions(**{**defaults, **options})))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=30))
            return Client(server, http)

        yield start_one


@pytest.fixture
async def client(start: Start) -> Client:
    return await start()
