"""Bad clients and bad engines, again and again: nothing of them stays."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

Start = Callable[..., Awaitable[Any]]

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BAD_CLIENTS = [
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    HEAD + b"X: " + b"a" * 100_000,
    HEAD + b"Content-Length: 104857600\r\n\r\n" + b"a" * 1_000_000,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    HEAD + b"Content-Length: 20\r\n\r\n{",
    HEAD + b'Content-Length: 2\r\nauthorization: Bearer x\r\n\r\n{"',
    b"GET /v1/models/%d HTTP/1.1\r\nHost: a\r\n\r\n",
]
BAD_ENGINES = [
    b"",
    b"\x00 garbage \r\n\r\n",
    STREAM + b"40\r\ndata: {",
    STREAM + b"100000\r\n" + b"data: " + b"x" * 1_000_000,
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}",
]
WARM_UP, ROUNDS = 3, 6
FEW_OBJECTS = 50
"""Fewer than one for every second bad thing done; what is just ending counts too."""


@pytest.fixture
def no_log() -> Iterator[None]:
    """Pytest keeps every record."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_nothing_of_the_bad_stays(engine: Start, router: Start, no_log: None) -> None:
    turn = 0

    async def misbehaving(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        writer.write(BAD_ENGINES[turn % len(BAD_ENGINES)])
        writer.close()

    one = await engine(misbehaving)
    served = await router(one, retries={"attempts": 0})
    port = served.origin.port

    async def send(data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(0.05):
                await reader.read()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    async def be_bad(number: int) -> None:
        for raw in BAD_CLIENTS:
            await send(raw.replace(b"%d", b"%d" % number))
        for _ in BAD_ENGINES:
            await served.post("/v1/chat/completions", CHAT)
            await send(REQUEST)

    async def objects() -> int:
        while served.gateway.in_flight or served.server.connections > 1:  # our own pool keeps one
            await asyncio.sleep(0.01)
        one.received.clear()
        gc.collect()
        return len(gc.get_objects())

    for number in range(WARM_UP):
        await be_bad(number)
    before = await objects()
    for number in range(WARM_UP, WARM_UP + ROUNDS):
        await be_bad(number)
    after = await objects()
    assert after - before < FEW_OBJECTS
    assert served.placed == 0
