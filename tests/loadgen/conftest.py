"""A small OpenAI endpoint whose answers each test writes itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest


@dataclass
class Asked:
    """A request as the endpoint got it, and the way to answer it."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter

    async def answer(self, status: int, body: object, *headers: str) -> None:
        data = orjson.dumps(body)
        head = [
            f"HTTP/1.1 {status} X",
            "content-type: application/json",
            f"content-length: {len(data)}",
            *headers,
        ]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + data)
        await self.writer.drain()

    async def begin_stream(self) -> None:
        self.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def event(self, value: object) -> None:
        await self.send(b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n")

    async def token(self, text: str = " x", **more: object) -> None:
        await self.event({"choices": [{"index": 0, "text": text, "finish_reason": None, **more}]})

    async def finish(self, completion_tokens: int, prompt_tokens: int = 5, **usage: object) -> None:
        await self.event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        tokens = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, **usage}
        await self.event({"choices": [], "usage": tokens})
        await self.event(b"[DONE]")
        await self.end_stream()

    async def end_stream(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def hang_up(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[Asked], Awaitable[None]]


async def answer_as_asked(asked: Asked) -> None:
    """All tokens, one an event."""
    await asked.begin_stream()
    tokens = asked.body["pointsman_output_tokens"]
    for _ in range(tokens):
        await asked.token()
    await asked.finish(tokens, prompt_tokens=len(asked.body["prompt"]) // 4)


@dataclass
class FakeEndpoint:
    handler: Handler = answer_as_asked
    models: object = field(default_factory=lambda: {"data": [{"id": "fake-model"}]})
    models_status: int = 200
    metrics: str = ""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    open_connections: int = 0
    most_connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._one(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _one(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(target, headers, orjson.loads(body) if body else {}, writer)
        if target.endswith("/models"):
            await asked.answer(self.models_status, self.models)
        elif target.endswith("/metrics"):
            data = self.metrics.encode()
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        else:
            assert method == "POST"
            self.asked.append(asked)
            await self.handler(asked)


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    fake = FakeEndpoint()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield fake
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
