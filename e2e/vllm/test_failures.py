"""Engines that die behind the router. They are a pair of their own: prefill as `kv_producer`, decode as `kv_consumer`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from contract.answers import COMPLETIONS, DONE, Asker, completion
from contract.case import Engines
from contract.transfer import PULLED, counted, lend
from realengine.engine import EngineSpec, RealEngine, free_ports, running
from realengine.environment import Environment
from realengine.router import Backend, routing


@pytest.fixture(scope="module")
def pair(environment: Environment, artefacts: Path) -> Iterator[list[RealEngine]]:
    specs = (EngineSpec("prefill", "kv_producer"), EngineSpec("decode", "kv_consumer"))
    with running(specs, environment, artefacts) as engines:
        yield engines


@pytest.fixture
async def askers(pair: list[RealEngine]) -> AsyncIterator[list[Asker]]:
    async with (
        httpx.AsyncClient(base_url=pair[0].url, timeout=60) as prefill,
        httpx.AsyncClient(base_url=pair[1].url, timeout=60) as decode,
    ):
        yield [Asker(prefill), Asker(decode)]


@pytest.mark.parametrize("lender", [0, 1], ids=["producer lends", "consumer lends"])
async def test_both_roles_lend_and_pull(lender: int, askers: list[Asker]) -> None:
    """The roles that replace the deprecated `kv_both` are names only: either engine lends, either pulls."""
    prompt = Engines.fresh(101)
    params = (await lend(askers[lender], prompt)).json["kv_transfer_params"]
    answer, sources = await counted(askers[1 - lender], prompt, 8, params)
    assert sources["pulled"] == 101
    assert answer.token_ids == (await askers[lender].complete(prompt, 8)).token_ids


async def test_prefill_and_decode_as_producer_and_consumer(
    pair: list[RealEngine], askers: list[Asker], artefacts: Path
) -> None:
    prompt = Engines.fresh(300)
    backends = [Backend(pair[0].url, "prefill", "nixl"), Backend(pair[1].url, "decode", "nixl")]
    with routing(backends, artefacts) as router:
        async with httpx.AsyncClient(base_url=router.url, timeout=60) as client:
            before = await askers[1].metrics()
            answer = await Asker(client).complete(prompt, 12)
            after = await askers[1].metrics()
    assert after[PULLED] - before.get(PULLED, 0) == 300
    assert answer.token_ids == (await askers[0].complete(prompt, 12)).token_ids


@asynccontextmanager
async def in_front_of(engine: RealEngine, after_answer: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """A proxy that does something once the engine has answered a completion and before the answer goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        async with httpx.AsyncClient(base_url=engine.url, timeout=60) as client:
            headers = {"content-type": "application/json"}
            answer = await client.request(scope["method"], scope["path"], content=body, headers=headers)
        if scope["path"] == COMPLETIONS:
            await after_answer()
        kind = answer.headers.get("content-type", "text/plain").encode()
        await send(
            {
                "type": "http.response.start",
                "status": answer.status_code,
                "headers": [(b"content-type", kind)],
            }
        )
        await send({"type": "http.response.body", "body": answer.content})

    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def test_the_prefill_engine_dies_between_the_legs(
    pair: list[RealEngine], askers: list[Asker], artefacts: Path
) -> None:
    """Its KV is gone; the decode engine computes the prompt itself, before the client has seen a byte."""
    prefill, decode = pair
    prompt = Engines.fresh(300)
    expected = (await askers[0].complete(prompt, 12)).token_ids

    async def die() -> None:
        prefill.kill()

    async with in_front_of(prefill, die) as url:
        backends = [Backend(url, "prefill", "nixl"), Backend(decode.url, "decode", "nixl")]
        with routing(backends, artefacts) as router:
            async with httpx.AsyncClient(base_url=router.url, timeout=90) as client:
                answer = await Asker(client).complete(prompt, 12)
    assert answer.status == 200
    assert answer.token_ids == expected


async def test_an_engine_dies_in_mid_stream(pair: list[RealEngine], artefacts: Path) -> None:
    """The client is told with an error event, and never with a clean end."""
    decode = pair[1]
    with routing([Backend(decode.url)], artefacts) as router:
        async with httpx.AsyncClient(base_url=router.url, timeout=60) as client:
            body = completion(Engines.fresh(40), 1900, stream=True)
            events: list[str] = []
            async with client.stream("POST", COMPLETIONS, json=body) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        events.append(line.removeprefix("data: "))
                    if len(events) == 5:
                        decode.kill()
    assert "error" in json.loads([event for event in events if event != DONE][-1])
