"""Everything around generation: models, health, tokens, rendering, metrics, KV events, aborts, priority."""

import asyncio
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from prometheus_client.parser import text_string_to_metric_families

from contract.answers import CHAT, COMPLETIONS, Asker, chat, completion, ids
from contract.case import Case, Engines, Observation, ask, checked, post
from contract.shape import shape

PATIENCE_S = 10.0

SHAPES = (
    ask("models", "GET", "/v1/models"),
    ask("one model by name", "GET", "/v1/models/tiny"),
    ask("health", "GET", "/health"),
    ask("health by HEAD", "HEAD", "/health"),
    ask("ping", "GET", "/ping"),
    ask("ping by POST", "POST", "/ping"),
    ask("version", "GET", "/version"),
    ask("load", "GET", "/load"),
    ask("sleep is for development", "GET", "/is_sleeping"),
    post("tokenize a text", "/tokenize", {"model": "tiny", "prompt": "import os"}),
    post("tokenize without a model", "/tokenize", {"prompt": "import os"}),
    post(
        "tokenize into strings",
        "/tokenize",
        {"model": "tiny", "prompt": "import os", "return_token_strs": True},
    ),
    post("tokenize a conversation", "/tokenize", {"model": "tiny", "messages": chat()["messages"]}),
    post("tokenize a number", "/tokenize", {"prompt": 5}),
    post("tokenize for an unknown model", "/tokenize", {"model": "nope", "prompt": "a"}),
    post("detokenize without tokens", "/detokenize", {"model": "tiny"}),
    post("render a completion", "/v1/completions/render", completion(ids(8))),
    post("abort what does not run", "/inference/v1/abort_requests", {"request_ids": ["nobody"]}),
    post(
        "generate from token ids",
        "/inference/v1/generate",
        {"token_ids": ids(8), "sampling_params": {"max_tokens": 3, "temperature": 0, "ignore_eos": True}},
        exact_counts=True,
    ),
)


@checked("detokenize gives the text back")
async def detokenize(engines: Engines) -> Observation:
    text = "import os, sys; print(sys.argv)"
    tokens = (await engines.one.post("/tokenize", {"model": "tiny", "prompt": text})).json["tokens"]
    answer = await engines.one.post("/detokenize", {"model": "tiny", "tokens": tokens})
    return {"keys": sorted(answer.json), "same": answer.json["prompt"] == text}


@checked("a conversation is tokenized as it is served")
async def tokenize_chat(engines: Engines) -> Observation:
    counted = await engines.one.post("/tokenize", {"model": "tiny", "messages": chat()["messages"]})
    served = await engines.one.post(CHAT, chat(return_token_ids=True))
    return {"same": counted.json["tokens"] == served.json["prompt_token_ids"]}


@checked("render a chat")
async def render_chat(engines: Engines) -> Observation:
    found = shape(await engines.one.post("/v1/chat/completions/render", chat()))
    found["body"] |= {"token_ids": "<tokens>"}  # a matter of the tokenizer
    return found


@checked("a rendered chat is what is served")
async def render_is_served(engines: Engines) -> Observation:
    rendered = await engines.one.post("/v1/chat/completions/render", chat())
    served = await engines.one.post(CHAT, chat(return_token_ids=True))
    return {"same": rendered.json["token_ids"] == served.json["prompt_token_ids"]}


async def generated(engine: Asker) -> dict[str, Any]:
    """Six tokens for the prompt `ids(8)`, as token ids."""
    sampling = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
    answer = await engine.post("/inference/v1/generate", {"token_ids": ids(8), "sampling_params": sampling})
    found: dict[str, Any] = answer.json
    return found


@checked("derender a completion")
async def derender_completion(engines: Engines) -> Observation:
    body = {"model": "tiny", "generate_responses": [await generated(engines.one)], "prompt_tokens": [8]}
    answer = await engines.one.post("/v1/completions/derender", body)
    served = await engines.one.complete(ids(8), 6)
    return {**shape(answer, exact_counts=True), "same text": answer.text == served.text}


@checked("derender a chat")
async def derender_chat(engines: Engines) -> Observation:
    """With the request that was rendered, as an engine that parses tools needs it."""
    body = {"model": "tiny", "generate_response": await generated(engines.one), "prompt_tokens": 8}
    answer = await engines.one.post("/v1/chat/completions/derender", {**body, "chat_request": chat()})
    return shape(answer, exact_counts=True)


@checked("derender nothing")
async def derender_nothing(engines: Engines) -> Observation:
    response = await generated(engines.one)
    response["choices"][0]["token_ids"] = []
    body = {"model": "tiny", "generate_response": response, "chat_request": chat()}
    return shape(await engines.one.post("/v1/chat/completions/derender", body))


@checked("derender for an unknown model")
async def derender_unknown(engines: Engines) -> Observation:
    body = {"model": "nope", "generate_responses": [await generated(engines.one)]}
    return shape(await engines.one.post("/v1/completions/derender", body))


@checked("metrics: names, types and labels")
async def metrics(engines: Engines) -> Observation:
    await engines.one.complete(ids(8))
    answer = await engines.one.ask("GET", "/metrics")
    families = list(text_string_to_metric_families(answer.body.decode()))
    found = {
        family.name: [family.type, sorted({label for sample in family.samples for label in sample.labels})]
        for family in families
        if family.name.startswith("vllm:")
        and not family.name.endswith(("_created", "tool_call_parser_invocations"))
    }
    return {
        "content-type": answer.headers["content-type"].split(";")[0],
        "families": dict(sorted(found.items())),
    }


@checked("metrics: finish reasons are counted from the start")
async def finish_reasons(engines: Engines) -> Observation:
    samples = await engines.one.metrics()
    return {"reasons": sorted(key for key in samples if key.startswith("vllm:request_success_total"))}


@checked("metrics: tokens are counted")
async def token_counters(engines: Engines) -> Observation:
    names = (
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_count",
    )
    await settled(engines.one)
    before = await engines.one.metrics()
    await engines.one.complete(engines.fresh(33), 5)
    after = await engines.one.metrics()
    return {name: after[name] - before[name] for name in names}


@checked("metrics: the prefix cache hits whole blocks")
async def prefix_cache(engines: Engines) -> Observation:
    prompt = engines.fresh(100)
    await engines.one.complete(prompt, 1)
    before = await engines.one.metrics()
    await engines.one.complete([*prompt, 50], 1)
    after = await engines.one.metrics()
    return {
        name: after[name] - before[name]
        for name in (
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_hits_total",
            'vllm:prompt_tokens_by_source_total{source="local_compute"}',
            'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}',
        )
    }


@checked("a prompt of whole blocks computes its last block again")
async def whole_blocks(engines: Engines) -> Observation:
    prompt = engines.fresh(96)
    await engines.one.complete(prompt, 1)
    before = await engines.one.metrics()
    await engines.one.complete(prompt, 1)
    after = await engines.one.metrics()
    return {"hits": after["vllm:prefix_cache_hits_total"] - before["vllm:prefix_cache_hits_total"]}


@checked("cache_salt keeps prefixes apart")
async def cache_salt(engines: Engines) -> Observation:
    prompt = engines.fresh(100)
    await engines.one.complete(prompt, 1, cache_salt="one")
    before = await engines.one.metrics()
    await engines.one.complete(prompt, 1, cache_salt="two")
    after = await engines.one.metrics()
    return {"hits": after["vllm:prefix_cache_hits_total"] - before["vllm:prefix_cache_hits_total"]}


async def settled(engine: Asker) -> None:
    """Until nothing runs or waits. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            samples = await engine.metrics()
            if samples["vllm:num_requests_running"] == 0 and samples["vllm:num_requests_waiting"] == 0:
                return
            await asyncio.sleep(0.05)


@checked("a client that leaves a stream aborts it")
async def disconnect(engines: Engines) -> Observation:
    before = await engines.one.metrics()
    async with engines.one.stream(COMPLETIONS, completion(ids(40), 1900, stream=True)) as events:
        await anext(events)
    await settled(engines.one)
    after = await engines.one.metrics()
    aborted = 'vllm:request_success_total{finished_reason="abort"}'
    return {
        "ended early": after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] < 1900,
        "counted as abort": after[aborted] - before[aborted],
        "kv usage": after["vllm:kv_cache_usage_perc"],
    }


@checked("a client that leaves before the answer aborts it")
async def disconnect_waiting(engines: Engines) -> Observation:
    before = await engines.one.metrics()
    try:
        async with asyncio.timeout(0.2):  # an idle engine needs a second for as many tokens
            await engines.one.complete(engines.fresh(40), 1900)
    except TimeoutError:
        pass
    await settled(engines.one)
    after = await engines.one.metrics()
    return {
        "ended early": after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] < 1800
    }


@checked("an aborted request ends with the reason abort")
async def abort_by_id(engines: Engines) -> Observation:
    """Beside twelve others, so that the engine does not finish before it hears of the abort."""
    body = completion(ids(40), 1900, stream=True, request_id="to-abort")
    reasons: list[str] = []
    others = [asyncio.create_task(engines.one.complete(engines.fresh(40), 1900)) for _ in range(12)]
    async with engines.one.stream(COMPLETIONS, body) as events:
        await anext(events)
        await engines.one.post("/inference/v1/abort_requests", {"request_ids": ["cmpl-to-abort-0"]})
        async for event in events:
            reasons += [choice["finish_reason"] for choice in event["choices"] if choice["finish_reason"]]
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await settled(engines.one)
    return {"reasons": reasons}


@checked("a more important request is scheduled first")
async def priority(engines: Engines) -> Observation:
    """Sixteen fill the engine; of two that wait, the later but more important one starts first."""
    started: list[str] = []

    async def follow(name: str, tokens: int, importance: int) -> None:
        # few events, so that this client keeps up with sixteen streams
        body = completion(engines.fresh(40), tokens, stream=True, priority=importance, stream_interval=100)
        async with engines.one.stream(COMPLETIONS, body) as events:
            await anext(events)
            started.append(name)
            async for _ in events:
                pass

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        # long enough that none ends before both wait; of different lengths, so that places become free one by one
        tasks = [group.create_task(follow("filler", 1000 + 55 * number, 0)) for number in range(16)]
        await until(lambda: len(started) == 16)
        tasks.append(group.create_task(follow("less important", 2, 9)))
        await asyncio.sleep(0.2)
        tasks.append(group.create_task(follow("more important", 2, 1)))
        await until(lambda: len(started) == 18)
        for task in tasks:
            task.cancel()
    return {"order": started[16:]}


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@checked("what does not fit is preempted and comes to the same answer")
async def preemption(engines: Engines) -> Observation:
    """Four requests of 1,100 tokens each want more than the other engine's 3,072 tokens of KV."""
    prompts = [engines.fresh(900) for number in range(4)]
    before = await engines.other.metrics()
    together = await asyncio.gather(*(engines.other.complete(prompt, 200) for prompt in prompts))
    after = await engines.other.metrics()
    alone = [await engines.one.complete(prompt, 200) for prompt in prompts]
    name = "vllm:num_preemptions_total"
    return {
        "preempted": after[name] - before[name] > 0,
        "same": [a.token_ids for a in together] == [b.token_ids for b in alone],
    }


@checked("KV events: stored blocks as published")
async def kv_events(engines: Engines) -> Observation:
    """Two new blocks: topic, sequence number, a msgpack batch of tagged arrays."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.SUB)
    socket.connect(engines.kv_events)
    socket.subscribe(b"kv")
    try:
        await asyncio.sleep(0.5)
        await engines.one.complete(engines.fresh(70), 1)
        async with asyncio.timeout(PATIENCE_S):
            topic, sequence, payload = await socket.recv_multipart()
    finally:
        socket.close(linger=0)
        context.term()
    stamp, events, *rest = msgspec.msgpack.decode(payload)
    event = events[0]
    return {
        "topic": topic.decode(),
        "sequence bytes": len(sequence),
        "batch": [type(stamp).__name__, "events", *[type(item).__name__ for item in rest]],
        "event": [described(item) for item in event] if isinstance(event, list) else describe_map(event),
    }


def describe_map(event: dict[str, Any]) -> dict[str, Any]:
    return {key: described(value) for key, value in event.items()}


def described(value: Any) -> Any:
    """Tags, sizes and names stay; hashes and token ids become their number and type."""
    if isinstance(value, list):
        return [len(value), type(value[0]).__name__ if value else None]
    return value


CASES: tuple[Case, ...] = (
    *SHAPES,
    detokenize,
    tokenize_chat,
    render_chat,
    render_is_served,
    derender_completion,
    derender_chat,
    derender_nothing,
    derender_unknown,
    metrics,
    finish_reasons,
    token_counters,
    prefix_cache,
    whole_blocks,
    cache_salt,
    disconnect,
    disconnect_waiting,
    abort_by_id,
    priority,
    preemption,
    kv_events,
)
