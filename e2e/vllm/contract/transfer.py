"""`kv_transfer_params`: KV that one engine computes and another pulls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from contract.answers import CHAT, COMPLETIONS, Answer, Asker, chat, completion, ids
from contract.case import Case, Engines, Observation, checked, post
from contract.shape import shape

LEND = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
PULLED = 'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}'
COMPUTED = 'vllm:prompt_tokens_by_source_total{source="local_compute"}'
CACHED = 'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}'

SHAPES = (
    post("a prefill leg of a chat", CHAT, chat(max_tokens=1, kv_transfer_params=LEND)),
    post("a prefill leg below one block", COMPLETIONS, completion(ids(8), 1, kv_transfer_params=LEND)),
    post("a prefill leg of three tokens", COMPLETIONS, completion(ids(100), 3, kv_transfer_params=LEND)),
    post(
        "a streamed prefill leg gives no params",
        COMPLETIONS,
        completion(ids(8), 1, stream=True, kv_transfer_params=LEND),
    ),
    post("null params", COMPLETIONS, completion(ids(8), kv_transfer_params=None)),
    post("empty params", COMPLETIONS, completion(ids(8), kv_transfer_params={})),
    post("unknown params", COMPLETIONS, completion(ids(8), kv_transfer_params={"a": 1})),
    post(
        "nothing remote",
        COMPLETIONS,
        completion(ids(8), kv_transfer_params={"do_remote_decode": False, "do_remote_prefill": False}),
    ),
)


async def lend(engine: Asker, prompt: list[int], tokens: int = 1, **more: Any) -> Answer:
    return await engine.complete(prompt, tokens, kv_transfer_params=LEND, **more)


async def counted(
    engine: Asker, prompt: list[int], tokens: int, params: Any, **more: Any
) -> tuple[Answer, Observation]:
    """An answer, and where the tokens of its prompt came from."""
    before = await engine.metrics()
    answer = await engine.complete(prompt, tokens, kv_transfer_params=params, **more)
    after = await engine.metrics()
    sources = {"pulled": PULLED, "computed": COMPUTED, "cached": CACHED}
    return answer, {name: after.get(key, 0) - before.get(key, 0) for name, key in sources.items()}


@checked("a prefill leg")
async def prefill_leg(engines: Engines) -> Observation:
    return shape(await lend(engines.one, engines.fresh(101)), exact_counts=True)


@checked("a prompt is pulled and the answer is the undisturbed one")
async def pull(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    answer, sources = await counted(engines.other, prompt, 12, params)
    alone = await engines.one.complete(prompt, 12)
    return {
        "same": answer.token_ids == alone.token_ids,
        "sources": sources,
        "answer": shape(answer, exact_counts=True),
    }


async def pulled(engines: Engines, prompt: list[int], tokens: int, **more: Any) -> Observation:
    """Whether a pulled prompt's answer is the undisturbed one, and where its tokens came from."""
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    answer, sources = await counted(engines.other, prompt, tokens, params, **more)
    alone = await engines.one.complete(prompt, tokens)
    return {"same": answer.token_ids == alone.token_ids, "sources": sources}


@checked("a streamed decode leg pulls too")
async def pull_streamed(engines: Engines) -> Observation:
    return await pulled(engines, engines.fresh(101), 12, stream=True)


@checked("a chat's prompt is pulled")
async def pull_chat(engines: Engines) -> Observation:
    body = chat("import os; " * 30, max_tokens=8, return_token_ids=True)
    params = (await engines.one.post(CHAT, body | {"max_tokens": 1, "kv_transfer_params": LEND})).json[
        "kv_transfer_params"
    ]
    before = await engines.other.metrics()
    answer = await engines.other.post(CHAT, body | {"kv_transfer_params": params})
    after = await engines.other.metrics()
    alone = await engines.one.post(CHAT, body)
    return {"same": answer.token_ids == alone.token_ids, "pulled": after[PULLED] > before.get(PULLED, 0)}


@checked("a prompt below one block is pulled")
async def pull_short(engines: Engines) -> Observation:
    return await pulled(engines, engines.fresh(8), 8)


@checked("only what is missing is pulled")
async def pull_rest(engines: Engines) -> Observation:
    prompt = engines.fresh(200)
    await engines.other.complete(prompt[:100], 1)
    return await pulled(engines, prompt, 8)


@checked("a leg of three tokens is continued")
async def leg_of_tokens(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    leg = await lend(engines.one, prompt, 3)
    params = leg.json["kv_transfer_params"]
    answer, sources = await counted(engines.other, [*prompt, *leg.token_ids], 5, params)
    alone = await engines.one.complete(prompt, 8)
    return {"same": leg.token_ids + answer.token_ids == alone.token_ids, "sources": sources}


@checked("a running request is handed over")
async def hand_over(engines: Engines) -> Observation:
    """While a stream runs, its prompt and tokens so far are lent by a prefill leg of their own."""
    prompt = engines.fresh(101)
    so_far: list[int] = []
    body = completion(prompt, 400, stream=True, return_token_ids=True)
    async with engines.one.stream(COMPLETIONS, body) as events:
        async for event in events:
            so_far += event["choices"][0]["token_ids"]
            if len(so_far) >= 60:
                break
        params = (await lend(engines.one, [*prompt, *so_far])).json["kv_transfer_params"]
    answer, sources = await counted(engines.other, [*prompt, *so_far], 20, params)
    alone = await engines.one.complete(prompt, len(so_far) + 20)
    few_computed = sources["computed"] <= 1 and sources["pulled"] >= 100 + 59
    return {"same": so_far + answer.token_ids == alone.token_ids, "pulled nearly all": few_computed}


@asynccontextmanager
async def busy(engine: Asker) -> AsyncIterator[None]:
    """Keeps an engine at work: its memory is in use while another reads of it what it should not."""
    async with engine.stream(COMPLETIONS, completion(ids(40), 1900, stream=True)) as events:
        await anext(events)
        yield


async def pulled_from_busy(engines: Engines, prompt: list[int], params: Any) -> Observation:
    """What a pull of blocks comes to that are no longer lent."""
    async with busy(engines.one):
        answer, sources = await counted(engines.other, prompt, 2, params)
    return {"status": answer.status, "sources": sources}


@checked("a second pull of the same blocks")
async def pull_twice(engines: Engines) -> Observation:
    """The first pull frees the lender's blocks."""
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    await engines.other.complete(prompt, 2, kv_transfer_params=params)
    return await pulled_from_busy(engines, prompt, params)


@checked("a pull after the lease has ended")
async def pull_expired(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    await asyncio.sleep(engines.lease_s + 2)
    return await pulled_from_busy(engines, prompt, params)


@checked("a pull of blocks under another request's name")
async def pull_unknown(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    return await pulled_from_busy(engines, prompt, params | {"remote_request_id": "cmpl-nobody-0-00000000"})


@checked("a pull by the lender itself")
async def pull_self(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    answer, sources = await counted(engines.one, prompt, 8, params)
    return {"status": answer.status, "sources": sources}


@checked("a dead source is an error")
async def dead_source(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    params |= {"remote_port": 1, "remote_engine_id": "00000000-0000-0000-0000-000000000000"}
    answer = await engines.other.complete(prompt, 4, kv_transfer_params=params)
    return shape(answer, exact_counts=True)


@checked("a dead source ends a stream with an error event")
async def dead_source_streamed(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    params = (await lend(engines.one, prompt)).json["kv_transfer_params"]
    params |= {"remote_port": 1, "remote_engine_id": "00000000-0000-0000-0000-000000000001"}
    answer = await engines.other.complete(prompt, 4, kv_transfer_params=params, stream=True)
    return shape(answer, exact_counts=True)


@checked("an engine that lent its KV goes on serving")
async def lender_serves(engines: Engines) -> Observation:
    prompt = engines.fresh(101)
    await lend(engines.one, prompt)
    before = await engines.one.metrics()
    answer = await engines.one.complete(prompt, 4)
    after = await engines.one.metrics()
    return {"status": answer.status, "cached": after[CACHED] - before[CACHED]}


CASES: tuple[Case, ...] = (
    *SHAPES,
    prefill_leg,
    pull,
    pull_streamed,
    pull_chat,
    pull_short,
    pull_rest,
    leg_of_tokens,
    hand_over,
    pull_twice,
    pull_expired,
    pull_unknown,
    pull_self,
    dead_source,
    dead_source_streamed,
    lender_serves,
)
