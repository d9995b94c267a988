"""What clients get when everything works: whole and streamed, on one instance and on two."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvloop

Start = Callable[..., Awaitable[Any]]


def events(body: bytes) -> list[Any]:
    lines = [one.removeprefix(b"data: ") for one in body.split(b"\n\n") if one]
    return [line if line == b"[DONE]" else orjson.loads(line) for line in lines]


def header(response: Any, name: bytes) -> bytes | None:
    return dict(response.headers).get(name)


async def test_these_tests_run_on_the_loop_that_serves() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def test_a_whole_answer_is_the_engines_own(engine: Start, router: Start) -> None:
    one = await engine()
    served = await router(one)
    answer = await served.chat({"x-request-id": "mine-1"})
    assert answer.status == 200
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"] == "abc"
    assert header(answer, b"x-request-id") == b"mine-1"
    assert served.outcomes() == {(200, ""): 1}
    assert served.placed == 0
    assert served.gateway.in_flight == 0
    assert served.metrics.model("m").output_tokens == 3


async def test_the_body_reaches_the_engine_byte_for_byte(engine: Start, router: Start) -> None:
    one = await engine()
    served = await router(one)
    raw = b'{ "model":"m", "x_unknown": [1.50, "\\u00e9"],\n"messages":[{"role":"user","content":"hi"}] }'
    await served.post("/v1/chat/completions", raw)
    assert one.received[0].raw == raw


@pytest.mark.parametrize("sessions", ["tracked", "relay"])
async def test_a_stream_is_passed_on_event_by_event(sessions: str, engine: Start, router: Start) -> None:
    served = await router(await engine(), sessions=sessions)
    answer = await served.chat(stream=True)
    assert header(answer, b"content-type") == b"text/event-stream; charset=utf-8"
    *tokens, done = events(answer.body)
    assert "".join(one["choices"][0]["delta"]["content"] for one in tokens) == "abc"
    assert done == b"[DONE]"
    assert served.outcomes() == {(200, ""): 1}
    assert served.placed == 0


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_is_counted_always_and_shown_when_asked_for(
    *, wanted: bool, engine: Start, router: Start
) -> None:
    served = await router(await engine())
    answer = await served.chat(stream=True, stream_options={"include_usage": wanted})
    shown = [one for one in events(answer.body) if one != b"[DONE]" and one.get("usage")]
    assert len(shown) == wanted
    assert served.metrics.model("m").prompt_tokens == 9
    assert served.metrics.model("m").output_tokens == 3


async def test_nixl_runs_prefill_then_decode_with_its_parameters(engine: Start, router: Start) -> None:
    prefill, decode = await engine(name="p"), await engine(name="d")
    served = await router(
        prefill,
        decode,
        roles=["prefill", "decode"],
        connector="nixl",
        model={"local_prefill_tokens": 0},
        open_access={"may_explain": True},
    )
    answer = await served.chat({"x-pointsman-explain": "1"}, stream=True, max_tokens=50)
    assert events(answer.body)[-1] == b"[DONE]"
    (first,), (second,) = prefill.received, decode.received
    assert first.body["max_tokens"] == 1
    assert first.body["stream"] is False
    assert "stream_options" not in first.body
    assert second.body["kv_transfer_params"] == {"remote_block_ids": [1, 2], "remote_engine_id": "p"}
    assert second.body["max_tokens"] == 50
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    explained = header(answer, b"x-pointsman-decision")
    assert explained is not None
    assert prefill.url.encode() in explained
    assert decode.url.encode() in explained
    assert served.placed == 0


@pytest.mark.parametrize("connector", ["sglang", "mooncake"])
async def test_legs_that_run_at_once_meet(connector: str, engine: Start, router: Start) -> None:
    prefill, decode = await engine(name="p"), await engine(name="d")
    served = await router(
        prefill,
        decode,
        roles=["prefill", "decode"],
        connector=connector,
        model={"local_prefill_tokens": 0},
    )
    answer = await served.chat(stream=True)
    assert events(answer.body)[-1] == b"[DONE]"
    (first,), (second,) = prefill.received, decode.received
    if connector == "sglang":
        assert first.raw == second.raw
        assert first.body["bootstrap_host"] == "127.0.0.1"
        assert 0 <= first.body["bootstrap_room"] < 2**63
    else:
        ids = {one.body["kv_transfer_params"]["transfer_id"] for one in (first, second)}
        assert len(ids) == 1
        assert second.body["kv_transfer_params"]["remote_bootstrap_addr"] == "http://127.0.0.1:8998"
    assert served.placed == 0


async def test_completions_embeddings_and_models(engine: Start, router: Start) -> None:
    one = await engine()
    served = await router(one, model={"aliases": ["gpt-4"]})
    assert (await served.post("/v1/completions", {"model": "gpt-4", "prompt": "hi"})).status == 200
    assert (await served.post("/v1/embeddings", {"model": "m", "input": ["a", "b"]})).status == 200
    assert [got.path for got in one.received] == ["/v1/completions", "/v1/embeddings"]
    assert one.received[0].body["model"] == "m"
