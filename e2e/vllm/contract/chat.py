"""`/v1/chat/completions`: roles, streams, tools and formats as far as a random model can show them."""

from typing import Any

from contract.answers import CHAT, MODEL, chat
from contract.case import Case, Engines, Observation, checked, post

USAGE = {"include_usage": True}
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
NAMED = {"type": "function", "function": {"name": "look_up"}}
SCHEMA = {"name": "x", "schema": {"enum": [True]}}


def conversation(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**chat(**more), "messages": list(messages)}


SHAPES = (
    post("one answer", CHAT, chat()),
    post("a stream", CHAT, chat(stream=True)),
    post("a stream of one token", CHAT, chat(max_tokens=1, stream=True)),
    post("a stream with usage", CHAT, chat(stream=True, stream_options=USAGE)),
    post("a stream with usage in every event", CHAT, chat(stream=True, stream_options=CONTINUOUS)),
    post("two choices", CHAT, chat(n=2, temperature=1.0, seed=7)),
    post("logprobs", CHAT, chat(logprobs=True, top_logprobs=2)),
    post("logprobs without alternatives", CHAT, chat(logprobs=True)),
    post("logprobs streamed", CHAT, chat(logprobs=True, top_logprobs=1, stream=True)),
    post("token ids", CHAT, chat(return_token_ids=True)),
    post("token ids streamed", CHAT, chat(return_token_ids=True, stream=True)),
    post("max_completion_tokens comes before max_tokens", CHAT, chat(max_tokens=5, max_completion_tokens=2)),
    post("content in parts", CHAT, chat([{"type": "text", "text": "import os"}])),
    post("a role of one's own", CHAT, conversation({"role": "critic", "content": "hm"})),
    post("content may be null", CHAT, conversation({"role": "assistant", "content": None})),
    post(
        "a longer conversation",
        CHAT,
        conversation(
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "import"},
            {"role": "assistant", "content": "os"},
            {"role": "user", "content": "sys"},
        ),
    ),
    post("tools that may not be called", CHAT, chat(tools=[TOOL], tool_choice="none")),
    post("tools that are not called", CHAT, chat(tools=[TOOL])),
    post(
        "JSON without a schema, cut short", CHAT, chat(max_tokens=1, response_format={"type": "json_object"})
    ),
    post("a reasoning effort", CHAT, chat(reasoning_effort="low")),
    post("a user", CHAT, chat(user="someone")),
)


@checked("streamed choices each begin with their role")
async def streamed_choices(engines: Engines) -> Observation:
    body = chat(n=2, temperature=1.0, seed=7, stream=True, stream_options=USAGE)
    answer = await engines.one.post(CHAT, body)
    choices = [choice for chunk in answer.chunks for choice in chunk["choices"]]
    roles = [choice["index"] for choice in choices if choice["delta"].get("role")]
    return {
        "roles": sorted(roles),
        "roles first": [choice["delta"].get("role") for choice in choices[:2]] == ["assistant"] * 2,
        "finished": sorted(choice["index"] for choice in choices if choice["finish_reason"]),
        "completion_tokens": answer.chunks[-1]["usage"]["completion_tokens"],
    }


@checked("a stream says what the answer says")
async def stream_equals_answer(engines: Engines) -> Observation:
    whole = await engines.one.post(CHAT, chat(max_tokens=12, return_token_ids=True))
    streamed = await engines.one.post(CHAT, chat(max_tokens=12, return_token_ids=True, stream=True))
    return {"tokens": whole.token_ids == streamed.token_ids, "text": whole.text == streamed.text}


@checked("a chat is the completion of its rendered prompt")
async def chat_is_completion(engines: Engines) -> Observation:
    whole = await engines.one.post(CHAT, chat(max_tokens=8, return_token_ids=True))
    prompt = whole.json["prompt_token_ids"]
    return {"same": (await engines.one.complete(prompt, 8)).token_ids == whole.token_ids}


@checked("without a limit the context is the limit")
async def no_limit(engines: Engines) -> Observation:
    body = {"model": MODEL, "messages": chat()["messages"], "temperature": 0, "ignore_eos": True}
    answer = await engines.one.post(CHAT, body)
    return {"finish": answer.finish_reason, "total": answer.json["usage"]["total_tokens"]}


@checked("a stop string is cut off")
async def stop_string(engines: Engines) -> Observation:
    text = (await engines.one.post(CHAT, chat(max_tokens=16))).text
    stop = (await engines.one.post(CHAT, chat(max_tokens=5))).text[-2:]
    answer = await engines.one.post(CHAT, chat(max_tokens=16, stop=stop))
    return {"cut": answer.text == text[: text.index(stop)], "finish": answer.finish_reason}


@checked("the system message changes the answer")
async def system_matters(engines: Engines) -> Observation:
    user = {"role": "user", "content": "import os"}
    plain = await engines.one.post(CHAT, conversation(user, max_tokens=8))
    told = await engines.one.post(CHAT, conversation({"role": "system", "content": "x"}, user, max_tokens=8))
    return {"same": plain.text == told.text}


@checked("a named tool is called")
async def named_tool(engines: Engines) -> Observation:
    answer = await engines.one.post(
        CHAT, chat(max_tokens=200, ignore_eos=False, tools=[TOOL], tool_choice=NAMED)
    )
    message = answer.json["choices"][0]["message"]
    call = message["tool_calls"][0]
    return {
        "status": answer.status,
        "keys": sorted(call),
        "type": call["type"],
        "name": call["function"]["name"],
        "function keys": sorted(call["function"]),
        "content": message["content"],
    }


@checked("a named tool is called in a stream")
async def named_tool_streamed(engines: Engines) -> Observation:
    body = chat(max_tokens=200, ignore_eos=False, tools=[TOOL], tool_choice=NAMED, stream=True)
    answer = await engines.one.post(CHAT, body)
    calls = [
        call
        for chunk in answer.chunks
        for c in chunk["choices"]
        for call in c["delta"].get("tool_calls") or ()
    ]
    return {
        "status": answer.status,
        "indices": sorted({call["index"] for call in calls}),
        "names": [call["function"]["name"] for call in calls if call["function"].get("name")],
        "ids": sum("id" in call and call["id"] is not None for call in calls),
    }


@checked("an answer in a schema")
async def json_schema(engines: Engines) -> Observation:
    body = chat(
        max_tokens=8, ignore_eos=False, response_format={"type": "json_schema", "json_schema": SCHEMA}
    )
    answer = await engines.one.post(CHAT, body)
    return {"status": answer.status, "text": answer.text, "finish": answer.finish_reason}


CASES: tuple[Case, ...] = (
    *SHAPES,
    streamed_choices,
    stream_equals_answer,
    chat_is_completion,
    no_limit,
    stop_string,
    system_matters,
    named_tool,
    named_tool_streamed,
    json_schema,
)
