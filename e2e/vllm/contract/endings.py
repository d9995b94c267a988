"""How an engine ends: asked to, with time to finish or without, while a stream is under way.

Each scenario ends its engine, so each has one of its own.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from contract.answers import COMPLETIONS, DONE, Asker, completion
from contract.case import Engines, Observation
from contract.transfer import LEND

GRACE_S = 60
TOKENS = 1900
BEGUN = 60
"""Tokens after which the engine is told to end."""
NOTICED_S = 0.5
"""Until it has taken notice."""
SILENCE_S = 6.0
"""Without a byte: it will not end the stream by itself."""
FINISHES_S = 60.0
"""Without a byte, where it will: a busy machine may take its time."""
ASKED_S = 30.0
"""Who is not answered by then while an engine drains will not be: two minutes were no better."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """An engine that may be ended."""

    url: str
    signal_first: Callable[[int], None]
    """The process that was started, as Kubernetes does."""
    signal_all: Callable[[int], None]
    """And those that it started."""


Scenario = Callable[[Doomed], Coroutine[Any, Any, dict[str, Observation]]]


@dataclass(slots=True)
class Stream:
    """What a stream has brought."""

    prompt: list[int]
    token_ids: list[int]
    events: list[str]

    def unfinished(self) -> Observation:
        """What a stopped engine's stream is, however it ends. vLLM's ends with an error event or the finish reason
        `abort`, both before `[DONE]`, or falls silent: which of its processes ends first makes the difference.
        """
        seen = self.observed()
        succeeded = seen["finish_reason"] in ("stop", "length")
        return {"all tokens": seen["all tokens"], "looks like a success": succeeded}

    def observed(self) -> Observation:
        last = [json.loads(event) for event in self.events if event != DONE][-1]
        return {
            "all tokens": len(self.token_ids) == TOKENS,
            "finish_reason": None if "error" in last else last["choices"][0]["finish_reason"],
            "error": "error" in last,
            "done": self.events[-1] == DONE,
        }


@asynccontextmanager
async def streaming(
    doomed: Doomed, silence_s: float = SILENCE_S
) -> AsyncIterator[tuple[Stream, Callable[[], Awaitable[str]]]]:
    """A stream under way, and what reads it to its end and says which that was."""
    stream = Stream(Engines.fresh(101), [], [])
    body = completion(stream.prompt, TOKENS, stream=True, return_token_ids=True)
    async with (
        httpx.AsyncClient(base_url=doomed.url, timeout=silence_s) as client,
        client.stream("POST", COMPLETIONS, json=body) as response,
    ):
        lines = response.aiter_lines()

        async def take() -> None:
            line = await anext(lines)
            if line.startswith("data: "):
                stream.events.append(line.removeprefix("data: "))
                if stream.events[-1] != DONE:
                    choices = json.loads(stream.events[-1]).get("choices") or [{}]
                    stream.token_ids += choices[0].get("token_ids") or []

        async def rest() -> str:
            try:
                while True:
                    await take()
            except StopAsyncIteration:
                return "ends"
            except httpx.ReadTimeout:
                return "falls silent"
            except httpx.TransportError:
                return "breaks off"

        while len(stream.token_ids) < BEGUN:
            await take()
        yield stream, rest


async def asked(doomed: Doomed, path: str, body: Any) -> Observation | None:
    """On a connection of its own, as a newcomer would. None: no answer."""
    async with httpx.AsyncClient(base_url=doomed.url, timeout=ASKED_S) as client:
        try:
            answer = await Asker(client).ask("GET" if body is None else "POST", path, json=body)
        except httpx.ReadTimeout:
            return None
        except httpx.TransportError as error:
            return {"raised": type(error).__name__}
    if answer.streamed:
        return {
            "status": answer.status,
            "events": ["..." if event != DONE else DONE for event in answer.events],
        }
    if answer.status != 200 or not answer.body:
        return {"status": answer.status}
    found = answer.json
    return {
        "status": answer.status,
        "finish_reason": found["choices"][0]["finish_reason"],
        "kv_transfer_params": found.get("kv_transfer_params"),
    }


async def draining(doomed: Doomed) -> dict[str, Observation]:
    """SIGTERM with time to finish.

    On a busy machine vLLM's API server may leave newcomers waiting for as long as a stream runs, and then the engine is gone:
    those are left out.
    """
    async with streaming(doomed, FINISHES_S) as (stream, rest):
        doomed.signal_first(signal.SIGTERM)
        reading = asyncio.ensure_future(rest())
        await asyncio.sleep(NOTICED_S)
        so_far = [*stream.prompt, *stream.token_ids]
        bodies: dict[str, tuple[str, Any]] = {
            "hand-over": (COMPLETIONS, completion(so_far, 1, kv_transfer_params=LEND)),
            "prefill leg": (COMPLETIONS, completion(Engines.fresh(40), 1, kv_transfer_params=LEND)),
            "completion": (COMPLETIONS, completion(Engines.fresh(40), 4)),
            "streamed completion": (COMPLETIONS, completion(Engines.fresh(40), 4, stream=True)),
            "health": ("/health", None),
        }
        # All at once: as soon as the stream has ended nobody is answered any more.
        answers = await asyncio.gather(*(asked(doomed, *body) for body in bodies.values()))
        ended = await reading
    found = {f"draining: {name}": one for name, one in zip(bodies, answers, strict=True) if one is not None}
    return {"draining: the stream": {"how": ended, **stream.observed()}, **found}


async def stopped(doomed: Doomed) -> dict[str, Observation]:
    """SIGTERM without time to finish, to every process of the engine's."""
    async with streaming(doomed) as (stream, rest):
        doomed.signal_all(signal.SIGTERM)
        await rest()
    return {"stopped: the stream": stream.unfinished()}


async def first_stopped(doomed: Doomed) -> dict[str, Observation]:
    """SIGTERM without time to finish, to the first process alone."""
    async with streaming(doomed) as (stream, rest):
        doomed.signal_first(signal.SIGTERM)
        await rest()
    return {"stopped, its first process told: the stream": stream.unfinished()}


async def killed(doomed: Doomed) -> dict[str, Observation]:
    async with streaming(doomed) as (stream, rest):
        doomed.signal_all(signal.SIGKILL)
        ended = await rest()
    return {"killed: the stream": {"how": ended, **stream.observed()}}


@dataclass(frozen=True, slots=True)
class Ending:
    """`graceful`: started with GRACE_S to finish."""

    scenario: Scenario
    graceful: bool


ENDINGS: dict[str, Ending] = {
    "draining": Ending(draining, graceful=True),
    "stopped": Ending(stopped, graceful=False),
    "first stopped": Ending(first_stopped, graceful=False),
    "killed": Ending(killed, graceful=False),
}


async def stopped_behind(router_url: str, doomed: Doomed) -> Observation:
    """What a router's client sees of a stream whose engine is stopped. Silent: the router has not given it up yet."""
    async with streaming(replace(doomed, url=router_url)) as (stream, rest):
        doomed.signal_all(signal.SIGTERM)
        ended = await rest()
        seen = stream.observed()
        return {
            "looks like a success": seen["done"] or seen["finish_reason"] is not None,
            "tells": seen["error"] or ended == "falls silent",
        }
