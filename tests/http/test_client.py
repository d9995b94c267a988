"""The upstream client against servers that behave, misbehave and go away."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.http.client import (
    Exchange,
    ExchangeError,
    Failure,
    Headers,
    Origin,
    Pool,
    Sweeper,
    Timeouts,
    parse_url,
    request,
    request_head,
    stream,
)

Serve = Callable[..., Awaitable[Origin]]
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.data = b""
        self.calls: list[str] = []
        self.error: ExchangeError | None = None
        self.done = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers
        self.calls.append("head")

    def on_data(self, data: bytes) -> None:
        self.data += data
        self.calls.append("data")

    def on_end(self) -> None:
        self.calls.append("end")
        self.done.set()

    def on_error(self, error: ExchangeError) -> None:
        self.error = error
        self.calls.append("error")
        self.done.set()


@pytest.fixture
async def pools(sweeper: Sweeper) -> AsyncIterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(origin: Origin, **options: object) -> Pool:
        made.append(Pool(origin, sweeper, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for pool in made:
        pool.close()
    await asyncio.sleep(0)


def get(pool: Pool, recorder: Recorder, **options: object) -> Exchange:
    return pool.send(request_head(pool.origin, "GET", "/", [], None), b"", recorder, **options)  # type: ignore[arg-type]


async def read_request(reader: Reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head


def answering(*pieces: bytes, then_wait: bool = False) -> Callable[[Reader, Writer], Awaitable[None]]:
    """A server that sends these pieces, one by one, after the first request, and closes or waits."""

    async def handler(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if then_wait:
            await reader.read()

    return handler


WHOLE = {
    "length": ([OK], b"ok"),
    "byte by byte": ([bytes([byte]) for byte in OK], b"ok"),
    "no body": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    "chunks": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"],
        b"abc",
    ),
    "chunks with trailer": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\n\r\n"],
        b"a",
    ),
    "until close": ([b"HTTP/1.1 200 OK\r\n\r\nab", b"c"], b"abc"),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\nabc"], b"abc"),
    "after 100 and 103": ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n", OK], b"ok"),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_response_is_delivered(name: str, serve: Serve, sweeper: Sweeper) -> None:
    pieces, body = WHOLE[name]
    pool = Pool(await serve(answering(*pieces)), sweeper)
    response = await request(pool, "GET", "/")
    assert response.status in (200, 204)
    assert response.body == body
    pool.close()


BROKEN = {
    "closed before a byte": ([], Failure.CLOSED),
    "closed in the head": ([b"HTTP/1.1 200 OK\r\ncontent-le"], Failure.CLOSED),
    "closed in the body": ([b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"], Failure.CLOSED),
    "closed in a chunk": ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nabc"], Failure.CLOSED),
    "closed between chunks": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"],
        Failure.CLOSED,
    ),
    "closed in the trailer": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx:"],
        Failure.CLOSED,
    ),
    "garbage": ([b"\x00\x01\x02 hello\r\n\r\n"], Failure.PROTOCOL),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n"], Failure.PROTOCOL),
    "two lengths": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"],
        Failure.PROTOCOL,
    ),
    "length and chunks": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
        Failure.PROTOCOL,
    ),
    "gzip, chunked": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
        Failure.PROTOCOL,
    ),
    "no chunk size": ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"], Failure.PROTOCOL),
    "switching protocols": (
        [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
        Failure.PROTOCOL,
    ),
    "endless header": ([b"HTTP/1.1 200 OK\r\nx: ", *[b"a" * 4096] * 64], Failure.TOO_LARGE),
    "endless headers": ([b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n" * 100] * 400], Failure.TOO_LARGE),
    "endless interim responses": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 200] * 100, Failure.TOO_LARGE),
    "endless chunk extension": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=", *[b"a" * 4096] * 64],
        Failure.TOO_LARGE,
    ),
    "endless trailer": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", *[b"a" * 4096] * 64],
        Failure.TOO_LARGE,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_response_is_an_error_never_an_end(
    name: str, serve: Serve, pools: Callable[..., Pool]
) -> None:
    pieces, failure = BROKEN[name]
    pool = pools(await serve(answering(*pieces, then_wait=failure is not Failure.CLOSED)))
    recorder = Recorder()
    get(pool, recorder)
    await recorder.done.wait()
    assert recorder.calls[-1] == "error"
    assert recorder.error is not None
    assert recorder.error.failure is failure
    assert recorder.error.response_started is bool(pieces)
    assert pool.connections == 0


async def test_connections_are_kept_and_used_again(serve: Serve, pools: Callable[..., Pool]) -> None:
    opened = 0

    async def handler(reader: Reader, writer: Writer) -> None:
        nonlocal opened
        opened += 1
        while True:
            await read_request(reader)
            writer.write(OK)

    pool = pools(await serve(handler))
    for _ in range(3):
        assert (await request(pool, "POST", "/", body=b"{}")).body == b"ok"
    assert opened == 1
    await asyncio.gather(*(request(pool, "GET", "/") for _ in range(4)))
    assert pool.connections == opened <= 4


async def test_idle_connections_are_bounded_and_expire(serve: Serve, pools: Callable[..., Pool]) -> None:
    async def handler(reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            await asyncio.sleep(0.01)
            writer.write(OK)

    pool = pools(await serve(handler), max_idle=2, idle_s=0.05)
    await asyncio.gather(*(request(pool, "GET", "/") for _ in range(5)))
    assert pool.connections == 2
    while pool.connections:
        await asyncio.sleep(0.01)


async def test_a_response_that_says_close_ends_its_connection(
    serve: Serve, pools: Callable[..., Pool]
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    pool = pools(await serve(answering(answer, then_wait=True)))
    assert (await request(pool, "GET", "/")).body == b"ok"
    assert pool.connections == 0


@pytest.mark.parametrize(
    "extra", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"\r\n\r\n\x00"]
)
async def test_bytes_after_the_response_never_reach_the_next_request(
    extra: bytes, serve: Serve, pools: Callable[..., Pool]
) -> None:
    pool = pools(await serve(answering(OK + extra, then_wait=True)))
    assert (await request(pool, "GET", "/")).body == b"ok"
    assert (await request(pool, "GET", "/")).body == b"ok"


async def test_bytes_on_an_idle_connection_close_it(serve: Serve, pools: Callable[..., Pool]) -> None:
    connections = 0
    said = asyncio.Event()

    async def handler(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK)
        await asyncio.sleep(0.02)
        said.set()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    pool = pools(await serve(handler))
    assert (await request(pool, "GET", "/")).body == b"ok"
    await said.wait()
    async with asyncio.timeout(30):
        while pool.connections:
            await asyncio.sleep(0.005)
    assert (await request(pool, "GET", "/")).body == b"ok"
    assert connections == 2


async def stale(serve: Serve) -> tuple[Origin, list[bytes]]:
    """A server that closes a connection on its second request, unanswered, and answers on new connections."""
    seen: list[bytes] = []

    async def handler(reader: Reader, writer: Writer) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)
        seen.append(await read_request(reader))

    return await serve(handler), seen


async def test_a_request_on_a_stale_connection_is_sent_again(
    serve: Serve, pools: Callable[..., Pool]
) -> None:
    origin, seen = await stale(serve)
    pool = pools(origin)
    for _ in range(2):
        assert (await request(pool, "POST", "/", body=b"body")).body == b"ok"
    assert len(seen) == 3
    assert all(one.endswith(b"body") for one in seen)


async def test_resending_can_be_refused(serve: Serve, pools: Callable[..., Pool]) -> None:
    origin, seen = await stale(serve)
    pool = pools(origin)
    await request(pool, "GET", "/")
    recorder = Recorder()
    get(pool, recorder, resend=False)
    await recorder.done.wait()
    assert recorder.error is not None
    assert recorder.error.failure is Failure.CLOSED
    assert len(seen) == 2


async def test_no_server_is_a_connect_failure(pools: Callable[..., Pool], unused_port: int) -> None:
    recorder = Recorder()
    get(pools(Origin("127.0.0.1", unused_port)), recorder)
    await recorder.done.wait()
    assert recorder.error is not None
    assert recorder.error.failure is Failure.CONNECT
    assert str(unused_port) in str(recorder.error)


TIMEOUTS = {
    "first byte": (Timeouts(first_byte_s=0.05), [], Failure.FIRST_BYTE_TIMEOUT),
    "between bytes": (
        Timeouts(between_bytes_s=0.05),
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"],
        Failure.BETWEEN_BYTES_TIMEOUT,
    ),
    "total": (Timeouts(total_s=0.05), [b"HTTP/1.1 200 OK\r\n\r\n"], Failure.TOTAL_TIMEOUT),
}


@pytest.mark.parametrize("name", TIMEOUTS)
async def test_timeouts(name: str, serve: Serve, pools: Callable[..., Pool]) -> None:
    timeouts, pieces, failure = TIMEOUTS[name]
    pool = pools(await serve(answering(*pieces, then_wait=True)))
    recorder = Recorder()
    get(pool, recorder, timeouts=timeouts)
    await recorder.done.wait()
    assert recorder.error is not None
    assert recorder.error.failure is failure


async def test_a_paused_exchange_does_not_time_out_between_bytes(
    serve: Serve, pools: Callable[..., Pool]
) -> None:
    async def handler(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nab")
        await writer.drain()
        await asyncio.sleep(0.15)
        writer.write(b"c")

    pool = pools(await serve(handler))
    recorder = Recorder()
    exchange = get(pool, recorder, timeouts=Timeouts(between_bytes_s=0.05))
    while not recorder.data:
        await asyncio.sleep(0.001)
    exchange.pause()
    await asyncio.sleep(0.2)
    exchange.resume()
    await recorder.done.wait()
    assert recorder.calls[-1] == "end"
    assert recorder.data == b"abc"


async def test_pausing_makes_the_server_wait(serve: Serve, pools: Callable[..., Pool]) -> None:
    sent = 0

    async def handler(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1

    pool = pools(await serve(handler))
    async with stream(pool, "GET", "/") as response:
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 32
        length = 0
        async for data in response:
            length += len(data)
    assert length == 64_000_000


async def test_abort_closes_the_connection_and_nothing_more_is_told(
    serve: Serve, pools: Callable[..., Pool]
) -> None:
    gone = asyncio.Event()

    async def handler(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nab")
        assert await reader.read() == b""
        gone.set()

    pool = pools(await serve(handler))
    recorder = Recorder()
    exchange = get(pool, recorder)
    while not recorder.data:
        await asyncio.sleep(0.001)
    exchange.abort()
    exchange.abort()
    await gone.wait()
    assert recorder.calls == ["head", "data"]
    assert pool.connections == 0


async def test_an_exchange_aborted_while_connecting_leaves_an_idle_connection(
    serve: Serve, pools: Callable[..., Pool]
) -> None:
    pool = pools(await serve(answering(OK, then_wait=True)))
    recorder = Recorder()
    get(pool, recorder).abort()
    while not pool.connections:
        await asyncio.sleep(0.001)
    assert (await request(pool, "GET", "/")).body == b"ok"
    assert recorder.calls == []
    assert pool.connections == 1


async def test_closing_the_pool_fails_what_is_under_way(serve: Serve, pools: Callable[..., Pool]) -> None:
    pool = pools(await serve(answering(b"HTTP/1.1 200 OK\r\n\r\nab", then_wait=True)))
    running, connecting = Recorder(), Recorder()
    get(pool, running)
    while not running.data:
        await asyncio.sleep(0.001)
    get(pool, connecting)
    await asyncio.sleep(0)
    pool.close()
    for recorder in (running, connecting):
        await recorder.done.wait()
        assert recorder.error is not None
        assert recorder.error.failure is Failure.CLOSED


async def test_the_next_request_may_be_sent_from_on_end(serve: Serve, pools: Callable[..., Pool]) -> None:
    async def handler(reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            writer.write(OK)

    pool = pools(await serve(handler))
    second = Recorder()

    class Chained(Recorder):
        def on_end(self) -> None:
            super().on_end()
            get(pool, second)

    get(pool, Chained())
    await second.done.wait()
    assert second.data == b"ok"
    assert pool.connections == 1


async def test_tls_is_verified(serve: Serve, pools: Callable[..., Pool]) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    origin = await serve(answering(OK, then_wait=True), ssl=server)
    with pytest.raises(ExchangeError) as refused:
        await request(pools(origin), "GET", "/")
    assert refused.value.failure is Failure.CONNECT
    authority.configure_trust(client)
    assert (await request(pools(origin, ssl_context=client), "GET", "/")).body == b"ok"


@settings(max_examples=40, deadline=None)
@given(
    garbage=st.binary(max_size=300),
    prefix=st.sampled_from(
        [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    ),
    cut=st.integers(1, 64),
)
def test_garbage_ends_in_exactly_one_call_and_leaks_nothing(garbage: bytes, prefix: bytes, cut: int) -> None:
    data = prefix + garbage

    async def run() -> list[str]:
        async def handler(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(data), cut):
                writer.write(data[start : start + cut])
                await asyncio.sleep(0)
            writer.close()

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        sweeper = Sweeper(0.01)
        pool = Pool(Origin("127.0.0.1", server.sockets[0].getsockname()[1]), sweeper)
        recorder = Recorder()
        get(pool, recorder)
        await recorder.done.wait()
        await asyncio.sleep(0.005)
        assert pool.connections == 0
        pool.close()
        sweeper.close()
        server.close()
        await asyncio.sleep(0)
        return recorder.calls

    calls = asyncio.run(run())
    gc.collect()
    assert sum(call in ("end", "error") for call in calls) == 1
    assert calls[-1] in ("end", "error")


def test_urls() -> None:
    assert parse_url("http://a:81/v1/") == (Origin("a", 81), "/v1")
    assert parse_url("https://[::1]")[0].authority == "[::1]"
    assert Origin("::1", 8000).authority == "[::1]:8000"
    for bad in ("a:81", "ftp://a", "http://", "http://u@a", "http://a/?q"):
        with pytest.raises(ValueError, match="URL"):
            parse_url(bad)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\0b"])
def test_a_header_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_head(Origin("a", 1), "GET", "/", [("x", value)], None)
