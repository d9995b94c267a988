"""Embeddings through the router: an engine that serves them, and one that does not."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from realengine.engine import MODEL, EngineSpec, RealEngine, running
from realengine.environment import Environment
from realengine.router import Backend, Router, routing

TEXTS = ["import os", "print(sys.argv)"]


@pytest.fixture(scope="module")
def engine(environment: Environment, artefacts: Path) -> Iterator[RealEngine]:
    with running([EngineSpec("embeds", embeds=True)], environment, artefacts) as engines:
        yield engines[0]


@pytest.fixture(scope="module")
def router(engine: RealEngine, artefacts: Path) -> Iterator[Router]:
    with routing([Backend(engine.url)], artefacts) as started:
        yield started


async def embedded(url: str) -> openai.types.CreateEmbeddingResponse:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        return await client.embeddings.create(model=MODEL, input=TEXTS)


async def test_embeddings_pass_through(router: Router, engine: RealEngine) -> None:
    through, directly = await embedded(router.url), await embedded(engine.url)
    assert [item.index for item in through.data] == [0, 1]
    assert [item.embedding for item in through.data] == [item.embedding for item in directly.data]
    assert through.usage == directly.usage


async def test_an_engine_that_embeds_does_not_chat(router: Router) -> None:
    """What the engine answers is passed on."""
    async with openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert raised.value.status_code in (400, 404)


async def test_an_engine_that_generates_does_not_embed(real_pair: list[RealEngine], artefacts: Path) -> None:
    with (
        routing([Backend(real_pair[0].url)], artefacts) as router,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        await embedded(router.url)
    assert raised.value.status_code in (400, 404)
