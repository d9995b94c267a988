"""The public port, byte by byte: what breaks the protocol, comes slowly, or goes away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.http.client import request

Start = Callable[..., Awaitable[Any]]

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n" % (
    len(BODY),
    BODY,
)
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


class Client:
    """A client that writes what it likes and reads whole answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        return int(first.split(" ")[1]), headers, body

    async def ended(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def connect(stack: Any) -> Callable[..., Awaitable[Client]]:
    async def start(served: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", served.origin.port))
        stack.callback(client.close)
        return client

    return start


@pytest.mark.parametrize("raw", [REQUEST, CHUNKED], ids=["length", "chunked"])
async def test_a_request_byte_by_byte(raw: bytes, engine: Start, router: Start, connect: Start) -> None:
    one = await engine()
    client = await connect(await router(one))
    for byte in raw:
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.answer())[0] == 200
    assert one.received[0].raw == BODY


async def test_pipelined_requests_are_answered_in_order(engine: Start, router: Start, connect: Start) -> None:
    client = await connect(await router(await engine()))
    client.send(MODELS + REQUEST + CHUNKED + b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" + REQUEST + MODELS)
    statuses = [(await client.answer())[0] for _ in range(6)]
    assert statuses == [200, 200, 200, 404, 200, 200]


async def test_an_answer_to_head_has_no_body(engine: Start, router: Start, connect: Start) -> None:
    client = await connect(await router(await engine()))
    client.send(MODELS.replace(b"GET", b"HEAD") + MODELS)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert (await client.answer())[0] == 200


async def test_a_thousand_pipelined_requests_nest_nothing(
    engine: Start, router: Start, connect: Start
) -> None:
    client = await connect(await router(await engine()))
    client.send(MODELS * 3000)
    for _ in range(3000):
        assert (await client.answer())[0] == 200


async def test_pipelining_without_reading_is_held_back(engine: Start, router: Start, connect: Start) -> None:
    release = asyncio.Event()

    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    served = await router(await engine(script))
    client = await connect(served)
    client.send(REQUEST + MODELS * 200_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.writer.drain(), 0.3)
    (connection,) = served.server._connections
    assert len(connection._buffer) < 1_000_000
    release.set()
    for _ in range(3):
        assert (await client.answer())[0] == 200


REFUSED = {
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", 400),
    "length and chunks": (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "obs-fold": (HEAD + b"X: a\r\n b\r\n\r\n", 400),
    "bare LF throughout": (b"GET /v1/models HTTP/1.1\nHost: a\n\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "gzip, chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "bad expectation": (HEAD + b"Content-Length: 1\r\nExpect: miracles\r\n\r\n", 417),
    "long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "large head": (HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "endless head": (HEAD + b"X: " + b"a" * 100_000, 431),
    "many headers": (HEAD + b"".join(b"x%d: y\r\n" % n for n in range(200)) + b"\r\n", 431),
    "large body, announced": (HEAD + b"Content-Length: 104857600\r\n\r\n", 413),
    "large body, in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5ffffff\r\n", 413),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_malformed_request_is_answered_and_ends_its_connection(
    name: str, engine: Start, router: Start, connect: Start
) -> None:
    raw, status = REFUSED[name]
    one = await engine()
    served = await router(one)
    other = await connect(served)
    client = await connect(served)
    client.send(raw + REQUEST)
    got, headers, body = await client.answer()
    assert got == status
    assert headers["connection"] == "close"
    assert headers["x-pointsman-reason"] in {"malformed", "too_large"}
    assert orjson.loads(body)["error"]["message"]
    assert await client.ended()
    assert one.received == []  # what followed was never taken for a request
    other.send(MODELS)
    assert (await other.answer())[0] == 200


async def test_a_refused_large_body_is_taken_in_so_that_the_answer_can_be_read(
    engine: Start, router: Start, connect: Start
) -> None:
    served = await router(await engine())
    client = await connect(served)
    size = 100 << 20
    client.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)

    async def upload() -> None:
        for _ in range(size >> 20):
            client.send(b"x" * (1 << 20))
            await client.writer.drain()

    await upload()
    assert (await client.answer())[0] == 413


async def test_expect_continue(engine: Start, router: Start, connect: Start) -> None:
    client = await connect(await router(await engine()))
    client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(BODY)
    assert (await client.answer())[0] == 200
    client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    assert (await client.answer())[0] == 404
    assert await client.ended()


@pytest.mark.parametrize(
    "part",
    [b"POST /v1/chat", HEAD + b"Content-Length: 100\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5"],
)
async def test_what_comes_too_slowly_is_answered_with_408(
    part: bytes, engine: Start, router: Start, connect: Start
) -> None:
    served = await router(await engine(), timeouts={"client_head_s": 0.05, "client_body_s": 0.05})
    client = await connect(served)
    client.send(part)
    await asyncio.sleep(0.03)
    client.send(b"1")
    assert (await client.answer())[0] == 408
    assert await client.ended()


async def test_an_idle_connection_is_closed(engine: Start, router: Start, connect: Start) -> None:
    served = await router(await engine(), timeouts={"client_idle_s": 0.05})
    client = await connect(served)
    client.send(MODELS)
    await client.answer()
    assert await client.ended()


@pytest.mark.parametrize("part", [b"POST /v1/chat", HEAD + b"Content-Length: 100\r\n\r\n{"])
async def test_a_connection_half_closed_within_a_request(
    part: bytes, engine: Start, router: Start, connect: Start
) -> None:
    client = await connect(await router(await engine()))
    client.send(part)
    client.writer.write_eof()
    assert (await client.answer())[0] == 400
    assert await client.ended()


async def test_connection_close_and_http_1_0(engine: Start, router: Start, connect: Start) -> None:
    served = await router(await engine())
    client = await connect(served)
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await client.answer())[1]["connection"] == "close"
    assert await client.ended()
    old = await connect(served)
    body = BODY[:-1] + b',"stream":true}'
    old.send(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    _, headers, _ = await old.answer()
    assert "transfer-encoding" not in headers
    assert (await old.reader.read()).endswith(b"data: [DONE]\n\n")


async def test_connections_are_limited(engine: Start, router: Start, connect: Start) -> None:
    served = await router(await engine(), limits={"connections": 1})
    first = await connect(served)
    first.send(MODELS)
    await first.answer()
    second = await connect(served)
    assert await second.ended()
    first.send(MODELS)
    assert (await first.answer())[0] == 200


async def test_a_slow_reader_holds_its_engine_back(engine: Start, router: Start, connect: Start) -> None:
    sent = 0

    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 100_000)
        for _ in range(250):
            writer.write(event)
            await writer.drain()
            sent += 1
        writer.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        writer.close()

    served = await router(await engine(script))
    client = await connect(served)
    body = BODY[:-1] + b',"stream":true}'
    client.send(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 200  # the rest of it waits in the engine
    _, _, answer = await client.answer()
    assert answer.count(b"data: ") == 252


async def test_draining_ends_what_runs_and_takes_nobody_in(
    engine: Start, router: Start, connect: Start
) -> None:
    release = asyncio.Event()

    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    served = await router(await engine(script))
    idle, busy = await connect(served), await connect(served)
    idle.send(MODELS)
    await idle.answer()
    busy.send(REQUEST)
    while not served.gateway.in_flight:
        await asyncio.sleep(0.001)
    draining = asyncio.ensure_future(served.server.drain(10.0))
    assert await idle.ended()
    with pytest.raises(ConnectionRefusedError):
        await connect(served)
    assert not draining.done()
    release.set()
    status, headers, _ = await busy.answer()
    assert (status, headers["connection"]) == (200, "close")
    await draining


async def test_draining_cuts_off_after_its_grace(engine: Start, router: Start, connect: Start) -> None:
    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    one = await engine(script)
    served = await router(one)
    client = await connect(served)
    client.send(REQUEST)
    while not one.received:
        await asyncio.sleep(0.001)
    await served.server.drain(0.05)
    await one.left.wait()
    assert served.placed == 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.lists(
        st.sampled_from([REQUEST, CHUNKED, MODELS, *(raw for raw, _ in REFUSED.values() if len(raw) < 500)])
        | st.binary(max_size=80),
        min_size=1,
        max_size=4,
    ).map(b"".join),
    cuts=st.lists(st.integers(1, 200), max_size=30),
)
async def test_whatever_comes_the_next_client_is_served(
    raw: bytes, cuts: list[int], engine: Start, router: Start, connect: Start
) -> None:
    served = await router(await engine())
    client = await connect(served)
    for cut in cuts:
        client.send(raw[:cut])
        raw = raw[cut:]
        await asyncio.sleep(0)
    client.send(raw)
    client.writer.write_eof()
    await asyncio.wait_for(client.reader.read(), 10)
    assert (await request(served.pool, "GET", "/v1/models")).status == 200
    while served.server.connections > 1:
        await asyncio.sleep(0.001)
    assert served.gateway.in_flight == 0
    assert served.placed == 0
