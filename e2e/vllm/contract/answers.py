"""Asking an engine, and what it answered."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

MODEL = "tiny"
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[str]:
        """The data of the server-sent events. Raises ValueError where the framing is another than vLLM's."""
        pieces = self.body.decode().split("\n\n")
        if pieces.pop():
            raise ValueError("the stream does not end with an empty line")
        if not all(piece.startswith("data: ") and "\n" not in piece for piece in pieces):
            raise ValueError("an event is not one line of data")
        return [piece.removeprefix("data: ") for piece in pieces]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(event) for event in self.events if event != DONE]

    @property
    def token_ids(self) -> list[int]:
        """Generated token ids of the first choice (asked for with `return_token_ids`)."""
        if not self.streamed:
            ids: list[int] = self.json["choices"][0]["token_ids"]
            return ids
        return [
            token
            for chunk in self.chunks
            for choice in chunk["choices"]
            for token in choice.get("token_ids") or ()
        ]

    @property
    def text(self) -> str:
        """Text of the first choice, from either endpoint, streamed or not."""
        parts = self.chunks if self.streamed else [self.json]
        return "".join(
            choice_text(choice) for part in parts for choice in part["choices"] if choice["index"] == 0
        )

    @property
    def finish_reason(self) -> str | None:
        parts = self.chunks if self.streamed else [self.json]
        reasons = [
            choice["finish_reason"] for part in parts for choice in part["choices"] if choice["finish_reason"]
        ]
        return reasons[-1] if reasons else None


def choice_text(choice: Mapping[str, Any]) -> str:
    holder = choice.get("message") or choice.get("delta") or choice
    return str(holder.get("content") or holder.get("text") or "")


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one engine."""

    client: httpx.AsyncClient

    async def ask(self, method: str, path: str, **sent: Any) -> Answer:
        """`sent` is what httpx sends: `json`, `content`, `headers`."""
        response = await self.client.request(method, path, **sent)
        return Answer(response.status_code, response.headers, response.content)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.ask("POST", path, json=body)

    async def complete(self, prompt: list[int], max_tokens: int = 8, **more: Any) -> Answer:
        """A greedy completion that tells its token ids."""
        return await self.post(COMPLETIONS, completion(prompt, max_tokens, return_token_ids=True, **more))

    @asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """The events of a stream as they come, without the last; leaving early disconnects."""
        async with self.client.stream("POST", path, json=body) as response:
            yield parsed(response)

    async def metrics(self) -> dict[str, float]:
        """Samples by name and labels, as `name{label="value"}`, labels that name the engine left out."""
        text = (await self.ask("GET", "/metrics")).body.decode()
        return {
            sample_key(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


async def parsed(response: httpx.Response) -> AsyncIterator[Any]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != f"data: {DONE}":
            yield json.loads(line.removeprefix("data: "))


def sample_key(name: str, labels: Mapping[str, str]) -> str:
    shown = ",".join(
        f'{key}="{labels[key]}"' for key in sorted(labels) if key not in ("engine", "model_name")
    )
    return f"{name}{{{shown}}}" if shown else name


def completion(prompt: Any, max_tokens: int = 3, **more: Any) -> dict[str, Any]:
    """Body of a greedy completion."""
    return {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        **more,
    }


def chat(content: Any = "print(1)", max_tokens: int = 3, **more: Any) -> dict[str, Any]:
    """Body of a greedy chat of one message; the answer to this one has no token that is only part of a character."""
    messages = [{"role": "user", "content": content}]
    return {
        "model": MODEL,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        **more,
    }


def ids(count: int, first: int = 40) -> list[int]:
    """A prompt of `count` token ids; another `first`, another prompt from its first token on."""
    return [40 + (first * 31 + index * 7) % 3000 for index in range(count)]
