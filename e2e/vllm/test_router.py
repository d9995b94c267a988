"""The router in front of real engines, asked by clients that nobody here wrote."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from contract.answers import CHAT, COMPLETIONS, Asker, chat, completion
from contract.case import Engines
from contract.chat import NAMED, TOOL
from contract.serving import settled
from contract.transfer import LEND, PULLED
from realengine.engine import MODEL, RealEngine
from realengine.environment import Environment
from realengine.load_client import BenchServe
from realengine.router import Backend, Router, routing

EXPLAIN = {"x-pointsman-explain": "1"}
LONG = "import os, sys; print(sys.argv) " * 12


@pytest.fixture(scope="module")
def one(real_pair: list[RealEngine], artefacts: Path) -> Iterator[Router]:
    with routing([Backend(real_pair[0].url)], artefacts) as router:
        yield router


@pytest.fixture(scope="module")
def two(real_pair: list[RealEngine], artefacts: Path) -> Iterator[Router]:
    with routing([Backend(engine.url) for engine in real_pair], artefacts) as router:
        yield router


@pytest.fixture(scope="module")
def apart(real_pair: list[RealEngine], artefacts: Path) -> Iterator[Router]:
    """Decode on the one with room, prefill on the other; prompts up to 32 uncached tokens skip the prefill."""
    decode, prefill = real_pair
    backends = [Backend(prefill.url, "prefill", "nixl"), Backend(decode.url, "decode", "nixl")]
    with routing(backends, artefacts, local_prefill_tokens=32) as router:
        yield router


async def asked(router: Router) -> AsyncIterator[Asker]:
    async with httpx.AsyncClient(base_url=router.url, timeout=60) as client:
        yield Asker(client)


@pytest.fixture
async def by_one(one: Router) -> AsyncIterator[Asker]:
    async for asker in asked(one):
        yield asker


@pytest.fixture
async def by_two(two: Router) -> AsyncIterator[Asker]:
    async for asker in asked(two):
        yield asker


@pytest.fixture
async def by_both(apart: Router) -> AsyncIterator[Asker]:
    async for asker in asked(apart):
        yield asker


BODIES = {
    "completion": (COMPLETIONS, completion(LONG, 12, return_token_ids=True)),
    "completion streamed": (COMPLETIONS, completion(LONG, 12, return_token_ids=True, stream=True)),
    "chat": (CHAT, chat(LONG, 12, return_token_ids=True)),
    "chat streamed": (CHAT, chat(LONG, 12, return_token_ids=True, stream=True)),
    "chat with logprobs": (CHAT, chat(LONG, 12, return_token_ids=True, logprobs=True, top_logprobs=2)),
}


@pytest.mark.parametrize("name", BODIES)
async def test_one_engine_answers_through_the_router_as_it_does_itself(
    name: str, by_one: Asker, engines: Engines
) -> None:
    path, body = BODIES[name]
    through, directly = await by_one.post(path, body), await engines.one.post(path, body)
    assert (through.status, directly.status) == (200, 200)
    assert through.token_ids == directly.token_ids
    assert through.text == directly.text
    assert through.headers["content-type"] == directly.headers["content-type"]


async def test_tools_pass_through(by_one: Asker) -> None:
    answer = await by_one.post(CHAT, chat(max_tokens=200, ignore_eos=False, tools=[TOOL], tool_choice=NAMED))
    assert answer.json["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "look_up"


async def test_engines_errors_pass_through(by_one: Asker) -> None:
    answer = await by_one.post(COMPLETIONS, completion("x", temperature=-1))
    assert answer.status == 400
    assert answer.json["error"]["param"] == "temperature"


async def test_two_engines_share_the_requests(by_two: Asker, engines: Engines) -> None:
    answers = [
        await by_two.ask("POST", COMPLETIONS, json=completion(engines.fresh(40), 2), headers=EXPLAIN)
        for _ in range(4)
    ]
    decisions = [answer.headers["x-pointsman-decision"].split(";")[0] for answer in answers]
    assert len(set(decisions)) == 2


@pytest.mark.parametrize("name", BODIES)
async def test_prefill_and_decode_apart_give_the_undisturbed_answer(
    name: str, by_both: Asker, engines: Engines
) -> None:
    """The pull is counted by the decode engine; a prompt of its own each time, else its cache has it."""
    path, body = BODIES[name]
    body = with_prompt(body, f"{name}: {LONG}")
    before = await engines.one.metrics()
    answer = await by_both.post(path, body)
    after = await engines.one.metrics()
    assert answer.status == 200
    assert answer.token_ids == (await engines.other.post(path, body)).token_ids
    assert after[PULLED] - before.get(PULLED, 0) > 100


def with_prompt(body: dict[str, Any], text: str) -> dict[str, Any]:
    if "prompt" in body:
        return body | {"prompt": text}
    return body | {"messages": [{"role": "user", "content": text}]}


async def test_a_short_prompt_skips_the_prefill_engine(by_both: Asker, engines: Engines) -> None:
    before = await engines.one.metrics()
    answer = await by_both.ask("POST", COMPLETIONS, json=completion(engines.fresh(12), 4), headers=EXPLAIN)
    after = await engines.one.metrics()
    assert answer.status == 200
    assert "prefill=" not in answer.headers["x-pointsman-decision"]
    assert after.get(PULLED, 0) == before.get(PULLED, 0)


async def test_a_client_may_not_steer_the_transfer(by_both: Asker, engines: Engines) -> None:
    answer = await by_both.post(COMPLETIONS, completion(engines.fresh(40), kv_transfer_params=LEND))
    assert answer.status == 400
    assert "kv_transfer_params" in answer.json["error"]["message"]


async def test_a_client_that_leaves_frees_both_engines(by_both: Asker, engines: Engines) -> None:
    async with by_both.stream(COMPLETIONS, completion(engines.fresh(200), 1500, stream=True)) as events:
        await anext(events)
    for engine in (engines.one, engines.other):
        await settled(engine)
        assert (await engine.metrics())["vllm:num_requests_running"] == 0


async def test_the_openai_client(apart: Router) -> None:
    async with openai.AsyncOpenAI(base_url=f"{apart.url}/v1", api_key="none") as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": LONG}], max_tokens=8, temperature=0
        )
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": LONG}],
            max_tokens=8,
            temperature=0,
            stream=True,
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == answer.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model="nope", prompt="x")


async def test_token_estimates_learn_from_real_counts(real_pair: list[RealEngine], artefacts: Path) -> None:
    """The router counts bytes and learns from `usage.prompt_tokens`; its first guess is far off this tokenizer."""
    texts = [f"def name_{number}(argument):\n    return argument * {number}\n" * 8 for number in range(40)]
    with routing([Backend(real_pair[0].url)], artefacts) as router:
        async with (
            httpx.AsyncClient(base_url=router.url, timeout=60) as client,
            httpx.AsyncClient(base_url=router.admin) as admin,
        ):
            near = [0.0]
            for text in texts:
                await Asker(client).post(COMPLETIONS, completion(text, 1))
                near.append(estimated_within_a_tenth(await Asker(admin).metrics()))
    assert near[1] == 0, "the first estimate should be a guess"
    assert near[-1] - near[-11] == 10


def estimated_within_a_tenth(samples: dict[str, float]) -> float:
    """How many prompts were estimated within 10% of what the engine counted."""
    above, below = (
        samples[f'pointsman_token_estimate_error_bucket{{le="{bound}",model="{MODEL}"}}']
        for bound in ("0.1", "-0.1")
    )
    return above - below


@pytest.mark.parametrize("layout", ["directly", "one", "apart"])
def test_vllms_own_load_client(
    layout: str,
    request: pytest.FixtureRequest,
    real_pair: list[RealEngine],
    environment: Environment,
    artefacts: Path,
) -> None:
    url = real_pair[0].url if layout == "directly" else request.getfixturevalue(layout).url
    load = BenchServe(requests=20)
    report = load.run(url, len(layout), environment, artefacts / f"bench-{layout}.json")
    assert report["completed"] == load.requests
