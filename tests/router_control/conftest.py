"""What the tests of the router's control side share."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.api.config_file import parse_config
from pointsman.api.router_config import RouterConfig

MakeConfig = Callable[..., RouterConfig]

MINIMAL: dict[str, Any] = {"models": [{"name": "llama", "instances": [{"url": "http://127.0.0.1:8001"}]}]}


@pytest.fixture
def make_config() -> MakeConfig:
    """A configuration with one mixed instance, and whatever else is given."""

    def make(**sections: Any) -> RouterConfig:
        return RouterConfig.model_validate(MINIMAL | sections)

    return make


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[str], RouterConfig]:
    """Reads a configuration's text as if it lay in a file."""

    def read(text: str) -> RouterConfig:
        return parse_config(text, RouterConfig, tmp_path / "router.yaml")

    return read


class FakeEngine:
    """A real server on loopback: GET /health and /metrics as it is told, and a chat answer that streams while `open`."""

    def __init__(self) -> None:
        self.health = 200
        self.start: float | None = 1.0
        self.metrics = "vllm:num_requests_running 1.0\n"
        self.silent = False
        self.asked: list[str] = []
        self.finish = asyncio.Event()
        """Streams end once this is set."""
        self.authorizations: set[str] = set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                path = line.split()[1].decode()
                length = 0
                while (header := (await reader.readline()).strip()) != b"":
                    if header.lower().startswith(b"authorization:"):
                        self.authorizations.add(header.decode())
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                await reader.readexactly(length)
                self.asked.append(path)
                if path == "/v1/chat/completions":
                    await self._stream(writer)
                elif not self.silent:
                    status, body = self._answer(path)
                    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n"
                    writer.write(head.encode() + body)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        """One token, and the end of the answer when it may finish."""
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        begin = {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]}
        end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        for event in (begin, end):
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            await self.finish.wait()
        done = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))
        await writer.drain()

    def _answer(self, path: str) -> tuple[int, bytes]:
        if path == "/metrics":
            start = f"process_start_time_seconds {self.start}\n" if self.start is not None else ""
            return 200, (start + self.metrics).encode()
        return (self.health, b"") if path == "/health" else (404, b"")


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    """A fake engine that listens already."""
    engine = FakeEngine()
    await engine.listen()
    yield engine
    await engine.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits until something is true; the test's own timeout bounds it."""

    async def wait(condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    return wait
