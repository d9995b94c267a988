"""A case: one behaviour, as a question to an engine (or two) and an observation that can be compared."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from contract.answers import Asker
from contract.shape import shape


@dataclass(frozen=True, slots=True)
class Engines:
    """Two engines of one model that can pull KV from each other. `kv_events` is the first one's ZMQ endpoint, `lease_s` how long
    lent KV is kept for who pulls it.

    `other` has few KV blocks (97 of 32 tokens), so that it preempts.
    """

    one: Asker
    other: Asker
    kv_events: str
    lease_s: float

    @staticmethod
    def fresh(count: int) -> list[int]:
        """A prompt of token ids that neither engine has in its cache."""
        return [random.randrange(40, 3000) for _ in range(count)]


Observation = dict[str, Any]
Run = Callable[[Engines], Awaitable[Observation]]


@dataclass(frozen=True, slots=True)
class Case:
    """`run` asks and returns plain JSON values that any engine of this kind must give."""

    name: str
    run: Run


def post(name: str, path: str, body: Any, *, exact_counts: bool | None = None) -> Case:
    """The shape of the answer to one body."""
    prompt = body.get("prompt") if isinstance(body, dict) else None
    ids_only = isinstance(prompt, list) and not any(isinstance(item, str) for item in prompt)
    exact = ids_only if exact_counts is None else exact_counts

    async def run(engines: Engines) -> Observation:
        return shape(await engines.one.post(path, body), exact_counts=exact)

    return Case(name, run)


def ask(name: str, method: str, path: str, **sent: Any) -> Case:
    """The shape of the answer to one request that is no JSON body."""

    async def run(engines: Engines) -> Observation:
        return shape(await engines.one.ask(method, path, **sent))

    return Case(name, run)


def checked(name: str) -> Callable[[Run], Case]:
    """Decorator: a behaviour that takes more than one question."""
    return lambda run: Case(name, run)


async def observe(case: Case, engines: Engines) -> Observation:
    """What the case finds; an answer that lacks what it looks for is an observation too."""
    try:
        return await case.run(engines)
    except (LookupError, ValueError, TimeoutError, httpx.HTTPError) as error:
        return {"raised": type(error).__name__}
