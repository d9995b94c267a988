"""With `--flavour sglang`: the shapes that SGLang 0.5 has instead of vLLM's."""

from typing import Any

import pytest

from pointsman.simengine.options import Flavour

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
async def engine(start: Any) -> Any:
    return await start(flavour=Flavour.SGLANG)


async def test_chat(engine: Any) -> None:
    answer = await engine.chat(messages=HELLO, max_tokens=4, ignore_eos=True)
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage", "metadata"]
    [choice] = answer["choices"]
    assert (choice["finish_reason"], choice["matched_stop"]) == ("length", None)
    assert answer["usage"]["completion_tokens"] == 4


async def test_a_chat_stream_ends_with_an_empty_delta(engine: Any) -> None:
    events = await engine.events(
        "/v1/chat/completions",
        messages=HELLO,
        max_tokens=3,
        ignore_eos=True,
        stream_options={"include_usage": True},
    )
    opening, *deltas, last, usage, done = events
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": None}
    assert len(deltas) == 3
    assert last["choices"][0]["delta"]["content"] is None
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 3
    assert done == "[DONE]"


async def test_completions_stream_the_same_text(engine: Any) -> None:
    body = {"prompt": "x", "max_tokens": 5, "ignore_eos": True}
    whole = await engine.complete(**body)
    *events, _ = await engine.events("/v1/completions", **body)
    assert "".join(event["choices"][0]["text"] for event in events) == whole["choices"][0]["text"]


async def test_errors_have_no_envelope(engine: Any) -> None:
    answer = (await engine.post("/v1/completions", prompt="x", model="other")).json()
    assert (answer["object"], answer["code"]) == ("error", 404)


async def test_what_it_says_of_itself(engine: Any) -> None:
    assert (await engine.http.get("/health_generate")).status_code == 200
    assert (await engine.http.get("/get_model_info")).json()["model_path"] == "tiny"
    assert (await engine.http.get("/v1/models")).json()["data"][0]["owned_by"] == "sglang"
    text = (await engine.http.get("/metrics")).text
    for name in (
        "num_running_reqs",
        "num_queue_reqs",
        "token_usage",
        "prompt_tokens_total",
        "cache_hit_rate",
    ):
        assert f"\nsglang:{name}{{" in text
    assert "vllm:" not in text
