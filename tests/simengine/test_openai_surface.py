"""What clients see: held against vLLM 0.32's fields, framing, reasons and errors."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

CHAT = "/v1/chat/completions"
PLAIN = "/v1/completions"
HELLO = [{"role": "user", "content": "Hello there"}]


class TestCompletions:
    async def test_fields_and_usage(self, client: Any) -> None:
        answer = await client.complete(model="alias", prompt="12345678", max_tokens=5, ignore_eos=True)
        assert answer["id"].startswith("cmpl-")
        assert answer["object"] == "text_completion"
        assert answer["model"] == "tiny"
        assert answer["usage"]["prompt_tokens"] == 2
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["usage"]["total_tokens"] == 7
        [choice] = answer["choices"]
        assert list(choice) == [
            "index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs",
            "prompt_token_ids", "routed_experts",
        ]  # fmt: skip
        assert choice["finish_reason"] == "length"
        assert len(choice["text"]) == 20

    async def test_max_tokens_is_16_unless_told(self, client: Any) -> None:
        answer = await client.complete(prompt="x", ignore_eos=True)
        assert answer["usage"]["completion_tokens"] == 16

    async def test_streamed_and_not_are_the_same_text(self, client: Any) -> None:
        body = {"prompt": "The same", "max_tokens": 30, "ignore_eos": True}
        whole = await client.complete(**body)
        *events, done = await client.events(PLAIN, **body)
        assert done == "[DONE]"
        assert "".join(event["choices"][0]["text"] for event in events) == whole["choices"][0]["text"]
        assert [event["choices"][0]["finish_reason"] for event in events] == [None] * 29 + ["length"]

    async def test_token_ids_continue_exactly(self, client: Any) -> None:
        body = {"max_tokens": 40, "ignore_eos": True, "return_token_ids": True}
        [whole] = (await client.complete(prompt="A long story", **body))["choices"]
        so_far = whole["prompt_token_ids"] + whole["token_ids"][:17]
        [rest] = (await client.complete(prompt=so_far, **{**body, "max_tokens": 23}))["choices"]
        assert rest["token_ids"] == whole["token_ids"][17:]
        assert rest["text"] == whole["text"][17 * 4 :]

    async def test_token_ids_in_a_stream(self, client: Any) -> None:
        *events, _ = await client.events(
            PLAIN, prompt="abcd", max_tokens=3, return_token_ids=True, ignore_eos=True
        )
        choices = [event["choices"][0] for event in events]
        tokenized = (await client.post("/tokenize", prompt="abcd")).json()["tokens"]
        assert [choice["prompt_token_ids"] for choice in choices] == [tokenized, None, None]
        assert all(len(choice["token_ids"]) == 1 for choice in choices)

    async def test_several_prompts_and_choices(self, client: Any) -> None:
        answer = await client.complete(prompt=["one", "two"], n=2, max_tokens=4, ignore_eos=True)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert len({choice["text"] for choice in answer["choices"]}) == 4
        assert answer["usage"]["completion_tokens"] == 16

    async def test_echo(self, client: Any) -> None:
        answer = await client.complete(prompt="say it again", echo=True, max_tokens=2, ignore_eos=True)
        assert answer["choices"][0]["text"].startswith("say it again ")

    async def test_logprobs(self, client: Any) -> None:
        answer = await client.complete(prompt="x", logprobs=2, max_tokens=3, ignore_eos=True)
        found = answer["choices"][0]["logprobs"]
        assert list(found) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
        assert found["text_offset"] == [0, 4, 8]
        assert all(value < 0 for value in found["token_logprobs"])
        assert all(len(top) == 2 for top in found["top_logprobs"])

    async def test_stop_string(self, client: Any) -> None:
        text = (await client.complete(prompt="x", max_tokens=30, ignore_eos=True))["choices"][0]["text"]
        answer = await client.complete(prompt="x", max_tokens=30, ignore_eos=True, stop=text[40:44])
        [choice] = answer["choices"]
        assert choice["finish_reason"] == "stop"
        assert choice["stop_reason"] == text[40:44]
        assert choice["text"] == text[: text.index(text[40:44])]

    async def test_the_length_the_load_client_asks_for(self, client: Any) -> None:
        answer = await client.complete(prompt="x", max_tokens=100, pointsman_output_tokens=37)
        assert answer["usage"]["completion_tokens"] == 37
        assert answer["choices"][0]["finish_reason"] == "stop"


class TestChat:
    async def test_fields(self, client: Any) -> None:
        answer = await client.chat(messages=HELLO, max_completion_tokens=4, max_tokens=9, ignore_eos=True)
        assert answer["id"].startswith("chatcmpl-")
        assert answer["object"] == "chat.completion"
        [choice] = answer["choices"]
        assert choice["message"]["role"] == "assistant"
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 4

    async def test_a_stream_opens_with_the_role_and_ends_with_usage(self, client: Any) -> None:
        events = await client.events(
            CHAT, messages=HELLO, max_tokens=3, ignore_eos=True, stream_options={"include_usage": True}
        )
        first, *deltas, usage, done = events
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [list(event["choices"][0]["delta"]) for event in deltas] == [["content"]] * 3
        assert deltas[-1]["choices"][0]["finish_reason"] == "length"
        assert deltas[-1]["choices"][0]["stop_reason"] is None
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 3
        assert done == "[DONE]"
        assert len({event["id"] for event in events[:-1]}) == 1

    async def test_continuous_usage(self, client: Any) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        events = await client.events(
            CHAT, messages=HELLO, max_tokens=3, ignore_eos=True, stream_options=options
        )
        counts = [event["usage"]["completion_tokens"] for event in events[:-1]]
        assert counts == [0, 1, 2, 3, 3]

    async def test_several_choices_each_have_their_role(self, client: Any) -> None:
        events = await client.events(CHAT, messages=HELLO, max_tokens=2, n=2, ignore_eos=True)
        openings = [event["choices"][0]["index"] for event in events[:2]]
        assert openings == [0, 1]
        texts = {0: "", 1: ""}
        for event in events[2:-1]:
            [choice] = event["choices"]
            texts[choice["index"]] += choice["delta"]["content"]
        assert texts[0] != texts[1]

    async def test_a_later_turn_finds_the_earlier_one_in_the_prefix_cache(self, client: Any) -> None:
        question = {"role": "user", "content": "word " * 100}
        first = await client.chat(messages=[question], max_tokens=64, ignore_eos=True)
        reply = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
        second = await client.chat(messages=[question, reply, *HELLO], max_tokens=1)
        cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == (first["usage"]["total_tokens"] - 1) // 16 * 16

    async def test_logprobs(self, client: Any) -> None:
        answer = await client.chat(
            messages=HELLO, logprobs=True, top_logprobs=3, max_tokens=2, ignore_eos=True
        )
        content = answer["choices"][0]["logprobs"]["content"]
        assert len(content) == 2
        for entry in content:
            assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
            assert bytes(entry["bytes"]).decode() == entry["token"]
            assert len(entry["top_logprobs"]) == 3

    async def test_several_tokens_per_event(self, start: Any) -> None:
        client = await start(tokens_per_event=4)
        *events, _ = await client.events(
            CHAT, messages=HELLO, max_tokens=10, ignore_eos=True, return_token_ids=True
        )
        sizes = [len(event["choices"][0]["token_ids"]) for event in events[1:]]
        assert sizes == [1, 4, 4, 1]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "param"),
    [
        pytest.param(PLAIN, {"prompt": "x", "model": "other"}, 404, "NotFoundError", "model", id="unknown model"),
        pytest.param(PLAIN, {}, 400, "BadRequestError", "prompt", id="no prompt"),
        pytest.param(CHAT, {}, 400, "Bad Request", "body.messages", id="no messages"),
        pytest.param(CHAT, {"messages": HELLO, "max_tokens": "a"}, 400, "Bad Request", "body.max_tokens", id="type"),
        pytest.param(PLAIN, {"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens", id="no tokens"),
        pytest.param(PLAIN, {"prompt": "x", "max_tokens": 99999}, 400, "BadRequestError", "max_tokens", id="too many"),
        pytest.param(PLAIN, {"prompt": "x" * 80000}, 400, "BadRequestError", "input_tokens", id="prompt too long"),
        pytest.param(PLAIN, {"prompt": "x", "temperature": -1}, 400, "BadRequestError", "temperature", id="temperature"),
        pytest.param(PLAIN, {"prompt": "x", "n": 0}, 400, "BadRequestError", None, id="no choices"),
        pytest.param(PLAIN, {"prompt": "x", "min_tokens": 17}, 400, "BadRequestError", None, id="min over max"),
        pytest.param(PLAIN, {"prompt": "x", "logprobs": 21}, 400, "BadRequestError", "logprobs", id="logprobs"),
        pytest.param(
            PLAIN, {"prompt": "x", "stream_options": {}, "stream": False}, 200, None, None, id="empty stream options"
        ),
        pytest.param(
            PLAIN,
            {"prompt": "x", "stream_options": {"include_usage": True}},
            400, "BadRequestError", "stream_options",
            id="stream options without a stream",
        ),
        pytest.param(
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            400, "BadRequestError", None,
            id="an image",
        ),
    ],
)  # fmt: skip
async def test_errors(
    client: Any, path: str, body: dict[str, Any], status: int, kind: str | None, param: str | None
) -> None:
    response = await client.post(path, **body)
    assert response.status_code == status, response.text
    if kind is not None:
        error = response.json()["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert (error["type"], error["param"], error["code"]) == (kind, param, status)


async def test_malformed_requests(client: Any) -> None:
    broken = await client.http.post(CHAT, content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "Bad Request")
    text = await client.http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})
    assert "Unsupported Media Type" in text.json()["error"]["message"]
    assert (await client.http.get("/nowhere")).status_code == 404
    assert (await client.http.get(CHAT)).status_code == 405


async def test_keys(start: Any) -> None:
    client = await start(api_keys=("sesame",))
    assert (await client.http.get("/v1/models")).status_code == 401
    assert (await client.http.get("/health")).status_code == 200
    headers = {"authorization": "Bearer sesame"}
    assert (await client.http.get("/v1/models", headers=headers)).status_code == 200


async def test_request_ids_follow_the_header(client: Any) -> None:
    response = await client.http.post(PLAIN, json={"prompt": "x"}, headers={"x-request-id": "mine"})
    assert response.json()["id"] == "cmpl-mine"


async def test_a_client_that_leaves_frees_its_blocks_at_once(client: Any) -> None:
    body = {"prompt": "x" * 4000, "max_tokens": 10_000, "ignore_eos": True, "stream": True}
    async with client.http.stream("POST", PLAIN, json=body) as response:
        async for _ in response.aiter_lines():
            break
        assert client.server.instance.stats().used_blocks > 0
    await client.server.instance.idle.wait()
    assert client.server.instance.stats().used_blocks == 0
    assert client.server.instance.measures.finished["abort"] == 0, "vLLM counts none whose client has left"


async def test_a_client_that_leaves_before_its_whole_answer(client: Any) -> None:
    body = {"prompt": "x", "max_tokens": 10_000, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        await client.http.post(PLAIN, json=body, timeout=0.2)
    await client.server.instance.idle.wait()
    assert client.server.instance.stats().used_blocks == 0


async def test_the_openai_client(client: Any) -> None:
    async with openai.AsyncOpenAI(base_url=f"{client.server.url}/v1", api_key="none") as api:
        assert [model.id async for model in await api.models.list()] == ["tiny", "alias"]
        answer = await api.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=5
        )
        assert answer.choices[0].message.content is not None
        stream = await api.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=5, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == answer.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            await api.completions.create(model="nobody", prompt="x")
        vectors = await api.embeddings.create(model="tiny", input=["a", "b"])
        assert len(vectors.data) == 2


async def test_tokenize_and_back(client: Any) -> None:
    text = "Zug um Zug, über die Brücke"
    tokens = (await client.post("/tokenize", prompt=text)).json()
    assert tokens["count"] == len(tokens["tokens"])
    assert (await client.post("/detokenize", tokens=tokens["tokens"])).json() == {"prompt": text}
    chat = (await client.post("/tokenize", messages=HELLO, return_token_strs=True)).json()
    assert chat["token_strs"] == ["<|user|>", "Hell", "o th", "ere", "<|end|>", "<|assistant|>"]


async def test_drain_finishes_what_runs_and_refuses_what_comes(client: Any) -> None:
    body = {"prompt": "x", "max_tokens": 100, "ignore_eos": True}
    running = asyncio.create_task(client.complete(**body))
    while client.server.instance.idle.is_set():
        await asyncio.sleep(0)
    drain = asyncio.create_task(client.server.drain(30))
    await asyncio.sleep(0)
    refused = await client.post(PLAIN, prompt="y")
    assert refused.status_code == 503
    await drain
    assert (await running)["usage"]["completion_tokens"] == 100
