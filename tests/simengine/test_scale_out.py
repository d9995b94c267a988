"""Rendering apart from generating, tokens in and tokens out, aborts by id."""

import asyncio
from typing import Any

HELLO = [{"role": "user", "content": "Hello there"}]
GENERATE = "/inference/v1/generate"


async def test_a_rendered_chat_generates_what_is_served(client: Any) -> None:
    body = {"messages": HELLO, "max_tokens": 8, "ignore_eos": True}
    rendered = (await client.post("/v1/chat/completions/render", **body)).json()
    served = await client.chat(**body, return_token_ids=True)
    assert rendered["token_ids"] == served["prompt_token_ids"]
    answer = (await client.post(GENERATE, **rendered)).json()
    assert answer["choices"][0]["token_ids"] == served["choices"][0]["token_ids"]
    assert answer["usage"]["completion_tokens"] == 8


async def test_prompts_are_rendered_one_by_one(client: Any) -> None:
    answer = await client.post("/v1/completions/render", prompt=["one", "four letters"], max_tokens=3)
    assert [len(each["token_ids"]) for each in answer.json()] == [1, 3]
    assert {each["sampling_params"]["max_tokens"] for each in answer.json()} == {3}


async def test_generate_streams_token_ids(client: Any) -> None:
    body = {"token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 3, "ignore_eos": True}}
    whole = (await client.post(GENERATE, **body)).json()
    events = await client.events(GENERATE, **body, stream_options={"include_usage": True})
    *deltas, usage, done = events
    streamed = [token for event in deltas for token in event["choices"][0]["token_ids"]]
    assert streamed == whole["choices"][0]["token_ids"]
    assert usage["usage"]["completion_tokens"] == 3
    assert done == "[DONE]"


async def test_generate_without_tokens(client: Any) -> None:
    answer = await client.post(GENERATE, token_ids=[], sampling_params={})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "body.token_ids"


async def test_an_abort_ends_the_answer_where_it_is(client: Any) -> None:
    body = {"prompt": "x", "max_tokens": 10_000, "ignore_eos": True, "request_id": "mine"}
    running = asyncio.create_task(client.complete(**body))
    while not client.server.instance.stats().running:
        await asyncio.sleep(0.005)
    answer = await client.post("/inference/v1/abort_requests", request_ids=["cmpl-mine-0"])
    assert answer.status_code == 200
    assert (await running)["choices"][0]["finish_reason"] == "abort"
    assert client.server.instance.stats().used_blocks == 0


async def test_an_abort_of_nobody(client: Any) -> None:
    assert (await client.post("/inference/v1/abort_requests", request_ids=["nobody"])).status_code == 200
    assert (await client.post("/inference/v1/abort_requests")).status_code == 400
