"""What is refused before any engine hears of it, and who may ask for what."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from pointsman.http.client import request
from pointsman.router.gateway import LEARN_EVERY_S

Start = Callable[..., Awaitable[Any]]

MESSAGES = [{"role": "user", "content": "hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/secret"}}


def error(answer: Any) -> tuple[int, str, str | None]:
    """Status, reason and param of an error answer, checked for its shape."""
    parsed = orjson.loads(answer.body)["error"]
    assert set(parsed) == {"message", "type", "param", "code"}
    assert parsed["message"]
    reason = dict(answer.headers)[b"x-pointsman-reason"].decode()
    assert parsed["code"] == reason
    return answer.status, reason, parsed["param"]


BAD_BODIES: dict[str, tuple[Any, tuple[int, str, str | None]]] = {
    "empty": (b"", (400, "invalid_request", None)),
    "broken JSON": (b'{"model":', (400, "invalid_request", None)),
    "invalid UTF-8": (b'{"model":"\xff"}', (400, "invalid_request", None)),
    "NaN": (b'{"model":NaN}', (400, "invalid_request", None)),
    "deep": (b"[" * 100_000, (400, "invalid_request", None)),
    "a list": ([], (400, "invalid_request", None)),
    "no model": ({"messages": MESSAGES}, (400, "invalid_request", "model")),
    "model of another type": ({"model": 1, "messages": MESSAGES}, (400, "invalid_request", "model")),
    "unknown model": ({"model": "x", "messages": MESSAGES}, (404, "model_not_found", "model")),
    "no messages": ({"model": "m"}, (400, "invalid_request", "messages")),
    "message of another type": ({"model": "m", "messages": ["x"]}, (400, "invalid_request", "messages[0]")),
    "stream of another type": (
        {"model": "m", "messages": MESSAGES, "stream": "yes"},
        (400, "invalid_request", "stream"),
    ),
    "negative max_tokens": (
        {"model": "m", "messages": MESSAGES, "max_tokens": -1},
        (400, "invalid_request", "max_tokens"),
    ),
    "absurd max_tokens": (
        {"model": "m", "messages": MESSAGES, "max_completion_tokens": 10**12},
        (400, "invalid_request", "max_completion_tokens"),
    ),
    "max_tokens is true": (
        {"model": "m", "messages": MESSAGES, "max_tokens": True},
        (400, "invalid_request", "max_tokens"),
    ),
    "n": ({"model": "m", "messages": MESSAGES, "n": 0}, (400, "invalid_request", "n")),
    "stream_options": (
        {"model": "m", "messages": MESSAGES, "stream": True, "stream_options": 1},
        (400, "invalid_request", "stream_options"),
    ),
    "kv_transfer_params": (
        {"model": "m", "messages": MESSAGES, "kv_transfer_params": {"remote_host": "10.0.0.1"}},
        (400, "forbidden_field", "kv_transfer_params"),
    ),
    "kv_transfer_params, escaped": (
        b'{"model":"m","messages":[],"kv\\u005ftransfer_params":null}',
        (400, "forbidden_field", "kv_transfer_params"),
    ),
    "kv_transfer_params by vllm_xargs": (
        {"model": "m", "messages": MESSAGES, "vllm_xargs": {"kv_transfer_params": {}}},
        (400, "forbidden_field", "vllm_xargs.kv_transfer_params"),
    ),
    "bootstrap_host": (
        {"model": "m", "messages": MESSAGES, "bootstrap_host": "10.0.0.1"},
        (400, "forbidden_field", "bootstrap_host"),
    ),
    "priority": ({"model": "m", "messages": MESSAGES, "priority": -9}, (400, "forbidden_field", "priority")),
    "data_parallel_rank": (
        {"model": "m", "messages": MESSAGES, "data_parallel_rank": 1},
        (400, "forbidden_field", "data_parallel_rank"),
    ),
    "remote media": (
        {"model": "m", "messages": [{"role": "user", "content": [IMAGE]}]},
        (400, "invalid_request", "messages"),
    ),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_refused_and_the_connection_goes_on(
    name: str, engine: Start, router: Start
) -> None:
    body, expected = BAD_BODIES[name]
    one = await engine()
    served = await router(one)
    assert error(await served.post("/v1/chat/completions", body)) == expected
    assert one.received == []
    assert (await served.chat()).status == 200
    assert served.server.connections == 1


async def test_forbidden_fields_may_be_dropped_instead(engine: Start, router: Start) -> None:
    one = await engine()
    served = await router(one, forbidden_fields="drop")
    answer = await served.chat(priority=-5, kv_transfer_params={}, vllm_xargs={"request_id": "x", "mine": 1})
    assert answer.status == 200
    assert set(one.received[0].body) == {"model", "messages", "vllm_xargs"}
    assert one.received[0].body["vllm_xargs"] == {"mine": 1}


async def test_forbidden_headers_are_refused_and_no_header_reaches_an_engine(
    engine: Start, router: Start
) -> None:
    one = await engine()
    served = await router(one)
    answer = await served.chat({"x-data-parallel-rank": "1"})
    assert error(answer) == (400, "forbidden_field", "x-data-parallel-rank")
    await served.chat({"authorization": "Bearer k", "cookie": "c", "x-request-id": "mine", "x-foo": "y"})
    headers = one.received[0].headers
    assert set(headers) == {"host", "content-type", "x-request-id", "content-length"}
    assert headers["x-request-id"] != "mine"


@pytest.mark.parametrize("given", ["bad id", "x" * 200, "a\u00e9"])
async def test_an_unsafe_request_id_is_replaced(given: str, engine: Start, router: Start) -> None:
    served = await router(await engine())
    answer = await served.chat({"x-request-id": given})
    assert len(dict(answer.headers)[b"x-request-id"]) == 32


ROUTES = {
    "nowhere": ("GET", "/nowhere", 404, "not_found"),
    "root": ("GET", "/", 404, "not_found"),
    "get chat": ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    "delete models": ("DELETE", "/v1/models", 405, "method_not_allowed"),
    "unknown model": ("GET", "/v1/models/x", 404, "model_not_found"),
    "metrics are not public": ("GET", "/metrics", 404, "not_found"),
}


@pytest.mark.parametrize("name", ROUTES)
async def test_routes(name: str, engine: Start, router: Start) -> None:
    method, path, status, reason = ROUTES[name]
    served = await router(await engine())
    answer = await request(served.pool, method, path)
    assert error(answer)[:2] == (status, reason)
    assert (b"allow" in dict(answer.headers)) == (status == 405)


def tenant(name: str, **rights: Any) -> dict[str, Any]:
    return {"name": name, "key_hashes": ["sha256:" + hashlib.sha256(name.encode()).hexdigest()], **rights}


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def test_keys(engine: Start, router: Start) -> None:
    served = await router(await engine(), model={"aliases": ["alias"]}, tenants=[tenant("a"), tenant("b")])
    answer = await served.chat()
    assert error(answer)[:2] == (401, "unauthorized")
    assert dict(answer.headers)[b"www-authenticate"] == b"Bearer"
    assert error(await served.chat(key("c")))[0] == 401
    assert (await served.chat(key("a"))).status == 200
    listed = await request(served.pool, "GET", "/v1/models", headers=key("b").items())
    assert [model["id"] for model in orjson.loads(listed.body)["data"]] == ["m", "alias"]
    one = await request(served.pool, "GET", "/v1/models/alias", headers=key("b").items())
    assert orjson.loads(one.body)["id"] == "alias"
    assert (await request(served.pool, "GET", "/v1/models")).status == 401


async def test_a_connection_is_as_good_as_its_last_key(engine: Start, router: Start) -> None:
    served = await router(await engine(), tenants=[tenant("a"), tenant("b")])
    assert (await served.chat(key("a"))).status == 200
    assert (await served.chat(key("x"))).status == 401
    assert (await served.chat()).status == 401
    assert (await served.chat(key("b"))).status == 200
    served.reload(tenants=[tenant("a")])
    assert (await served.chat(key("b"))).status == 401
    assert (await served.chat(key("a"))).status == 200
    assert served.server.connections == 1


async def test_an_explanation_is_a_permission(engine: Start, router: Start) -> None:
    served = await router(await engine(), tenants=[tenant("a", may_explain=True), tenant("b")])
    asked = {"x-pointsman-explain": "1"}
    assert b"x-pointsman-decision" in dict((await served.chat({**key("a"), **asked})).headers)
    assert b"x-pointsman-decision" not in dict((await served.chat({**key("b"), **asked})).headers)
    assert b"x-pointsman-decision" not in dict((await served.chat(key("a"))).headers)


@pytest.mark.parametrize("limit", ["tenant", "router"])
async def test_requests_at_once_are_limited(limit: str, engine: Start, router: Start) -> None:
    release = asyncio.Event()

    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    one = await engine(script)
    limited = {"limits": {"concurrent_requests": 1}} if limit == "router" else {}
    served = await router(one, tenants=[tenant("a", max_concurrent=1), tenant("b")], **limited)
    running = asyncio.ensure_future(served.chat(key("a")))
    while not one.received:
        await asyncio.sleep(0.001)
    refused = await served.chat(key("a" if limit == "tenant" else "b"))
    assert error(refused)[:2] == (429, "overloaded")
    assert int(dict(refused.headers)[b"retry-after"]) >= 1
    release.set()
    assert (await running).status == 200
    assert (await served.chat(key("a"))).status == 200


async def test_no_instance_and_no_room(engine: Start, router: Start) -> None:
    one = await engine()
    served = await router(one, queue={"max_wait_for_instance_s": 0})
    for member in served.fleet.members():
        served.fleet.dead(member, "test", refused=False)
    answer = await served.chat()
    assert error(answer)[:2] == (503, "no_instance")


async def test_engines_get_their_own_key(engine: Start, router: Start, tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text("engine-key\n")
    one = await engine()
    instances = [{"url": one.url, "api_key_file": str(file)}]
    served = await router(one, model={"instances": instances}, tenants=[tenant("a")])
    await served.chat(key("a"))
    assert one.received[0].headers["authorization"] == "Bearer engine-key"


async def test_the_prompts_size_is_learned_from_usage(engine: Start, router: Start) -> None:
    served = await router(await engine())
    first_guess = served.prompts.tokens_per_byte("m")
    for _ in range(50):
        await served.chat(stream=True, messages=[{"role": "user", "content": "x" * 1000}])
        await asyncio.sleep(LEARN_EVERY_S)
    assert 9 / 1000 < served.prompts.tokens_per_byte("m") < first_guess / 3


LENGTHS: dict[str, tuple[dict[str, Any], bool]] = {
    "may fit": ({"prompt": "x" * 3000}, True),
    "surely too long": ({"prompt": "x" * 4000}, False),
    "ids that fit": ({"prompt": [1] * 99}, True),
    "too many ids": ({"prompt": [1] * 101}, False),
}


@pytest.mark.parametrize("name", LENGTHS)
async def test_a_prompt_is_refused_for_length_only_if_that_is_sure(
    name: str, engine: Start, router: Start
) -> None:
    body, fits = LENGTHS[name]
    served = await router(await engine(), model={"context_tokens": 100})
    answer = await served.post("/v1/completions", {"model": "m", **body})
    if fits:
        assert answer.status == 200
    else:
        assert error(answer) == (400, "context_length_exceeded", None)


async def test_nobody_waits_beyond_the_deadline(engine: Start, router: Start) -> None:
    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    one = await engine(script)
    served = await router(one)
    assert error(await served.chat({"x-deadline-ms": "50"}))[:2] == (504, "upstream_timeout")
    await one.left.wait()


SPLIT_OR_NOT = {
    "plain": ({}, True),
    "n": ({"n": 2}, False),
    "best_of": ({"best_of": 3}, False),
    "prompt_logprobs": ({"prompt_logprobs": 1}, False),
}


@pytest.mark.parametrize("name", SPLIT_OR_NOT)
async def test_what_may_be_split(name: str, engine: Start, router: Start) -> None:
    fields, split = SPLIT_OR_NOT[name]
    prefill, decode = await engine(), await engine()
    served = await router(
        prefill, decode, roles=["prefill", "decode"], connector="nixl", model={"local_prefill_tokens": 0}
    )
    assert (await served.chat(**fields)).status == 200
    assert bool(prefill.received) is split
    assert "kv_transfer_params" not in decode.received[0].body or split
