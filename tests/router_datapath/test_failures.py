"""Engines that refuse, break off, hang, answer garbage or die, and clients that leave."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.http.client import stream

Start = Callable[..., Awaitable[Any]]
Writer = asyncio.StreamWriter

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ABORTED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n'
ENGINE_ERROR = b'data: {"error":{"message":"out of memory","type":"InternalServerError","code":500}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines, len(body), body)


def saying(*pieces: bytes, close: bool = True) -> Any:
    """An engine that sends these bytes and closes, or hangs."""

    async def script(engine: Any, got: Any, writer: Writer) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()
        else:
            await asyncio.Event().wait()

    return script


def reason(answer: Any) -> str:
    headers: dict[bytes, bytes] = dict(answer.headers)
    return headers.get(b"x-pointsman-reason", b"").decode()


BEFORE_THE_FIRST_BYTE = {
    "closed at once": [],
    "half a head": [b"HTTP/1.1 200 OK\r\nconte"],
    "garbage": [b"\x00\x01\x02\x03 garbage \r\n\r\n"],
    "500": [whole(500, b"{}")],
    "503": [whole(503, b"{}", b"retry-after: 3")],
    "429": [whole(429, b"{}")],
    "its key is refused": [whole(401, b"{}")],
    "redirect": [whole(307, b"", b"location: http://elsewhere/")],
    "head, then closed": [STREAM],
    "truncated length": [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"],
    "no JSON": [whole(200, b"<html>")],
    "20 MB line": [STREAM, chunk(b"data: " + b"x" * 20_000_000)],
    "error event first": [STREAM, chunk(ENGINE_ERROR), chunk(DONE), chunk(b"")],
    "event of the wrong shape": [STREAM, chunk(b'data: {"choices":[1,2]}\n\n')],
    "event of choices that are text": [STREAM, chunk(b'data: {"choices":"abc"}\n\n')],
    "given up, as by an engine that drains": [
        whole(200, b'{"choices":[{"finish_reason":"abort","text":""}]}')
    ],
    "a stream given up": [STREAM, chunk(ABORTED), chunk(DONE), chunk(b"")],
    "done before it began": [STREAM, chunk(DONE), chunk(b"")],
    "event that is no JSON": [STREAM, chunk(b"data: {oops\n\n")],
}


@pytest.mark.parametrize("name", BEFORE_THE_FIRST_BYTE)
async def test_before_the_first_byte_another_instance_answers(
    name: str, engine: Start, router: Start
) -> None:
    broken = await engine(saying(*BEFORE_THE_FIRST_BYTE[name]))
    works = await engine()
    served = await router(broken, works)
    answer = await served.chat(stream=True)
    assert answer.status == 200
    assert answer.body.endswith(DONE)
    (first,), (second,) = broken.received, works.received
    assert first.raw == second.raw
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert served.outcomes() == {(200, ""): 1}
    assert served.placed == 0
    assert sum(served.metrics.model("m").retries.values()) == 1


@pytest.mark.parametrize("name", BEFORE_THE_FIRST_BYTE)
async def test_where_nobody_else_can_the_client_is_told(name: str, engine: Start, router: Start) -> None:
    broken = await engine(saying(*BEFORE_THE_FIRST_BYTE[name]))
    served = await router(broken)
    answer = await served.chat(stream=True)
    assert answer.status in (502, 503)
    assert reason(answer).startswith("upstream_")
    assert orjson.loads(answer.body)["error"]["message"]
    assert len(broken.received) == 3
    assert served.placed == 0
    assert served.gateway.in_flight == 0


AFTER_THE_FIRST_BYTE = {
    "closed": ([], "upstream_broken"),
    "half a chunk": ([b"40\r\ndata: {"], "upstream_broken"),
    "half an event, then the end": ([chunk(b'data: {"choices"'), chunk(b"")], "upstream_broken"),
    "the end without being done": ([chunk(b"")], "upstream_broken"),
    "done without a finish reason": ([chunk(DONE), chunk(b"")], "upstream_broken"),
    "given up": ([chunk(ABORTED), chunk(DONE), chunk(b"")], "upstream_broken"),
    "garbage for a chunk": ([b"zz\r\n"], "upstream_broken"),
    "20 MB line": ([chunk(b"data: " + b"x" * 20_000_000)], "upstream_broken"),
    "error event and done": ([chunk(ENGINE_ERROR), chunk(DONE), chunk(b"")], "upstream_error"),
}


@pytest.mark.parametrize("name", AFTER_THE_FIRST_BYTE)
async def test_after_the_first_byte_the_stream_ends_with_an_error(
    name: str, engine: Start, router: Start
) -> None:
    pieces, why = AFTER_THE_FIRST_BYTE[name]
    broken = await engine(saying(STREAM, chunk(TOKEN), *pieces))
    served = await router(broken, await engine())
    answer = await served.chat(stream=True)
    assert answer.status == 200
    first, *_, last = answer.body.split(b"\n\n")[:-1]
    assert first + b"\n\n" == TOKEN
    error = orjson.loads(last.removeprefix(b"data: "))["error"]
    if why == "upstream_error":
        assert error["message"] == "out of memory"
    else:
        assert error["code"] == why
    assert b"[DONE]" not in answer.body
    ((code, counted),) = served.outcomes()
    assert (code, counted) == (502, why)
    assert served.placed == 0


@pytest.mark.parametrize("sessions", ["tracked", "relay"])
async def test_an_error_event_followed_by_done_is_a_failure(
    sessions: str, engine: Start, router: Start
) -> None:
    broken = await engine(saying(STREAM, chunk(TOKEN), chunk(ENGINE_ERROR + DONE), chunk(b"")))
    served = await router(broken, sessions=sessions)
    answer = await served.chat(stream=True)
    assert b"out of memory" in answer.body
    assert (200, "") not in served.outcomes()


async def test_a_relayed_stream_that_is_done_before_it_began_is_asked_for_elsewhere(
    engine: Start, router: Start
) -> None:
    drains, works = await engine(saying(STREAM, chunk(DONE), chunk(b""))), await engine()
    served = await router(drains, works, sessions="relay")
    answers = [await served.chat(stream=True) for _ in range(2)]
    assert [answer.body.count(b"data: {") for answer in answers] == [3, 3]
    assert drains.received


async def test_an_event_may_bring_several_tokens_and_a_read_several_events(
    engine: Start, router: Start
) -> None:
    several = b'data: {"choices":[{"index":0,"delta":{"content":"ab"},"token_ids":[5,6,7],"finish_reason":null}]}\n\n'
    one = await engine(saying(STREAM, chunk(several + several), chunk(several + STOP + DONE), chunk(b"")))
    served = await router(one)
    answer = await served.chat(stream=True)
    assert answer.body == several * 3 + STOP + DONE
    assert served.metrics.model("m").output_tokens == 10


async def test_the_engines_own_400_is_passed_on(engine: Start, router: Start) -> None:
    body = b'{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}'
    one, two = await engine(saying(whole(400, body))), await engine()
    served = await router(one, two)
    answer = await served.chat()
    assert (answer.status, answer.body) == (400, body)
    assert reason(answer) == "upstream_refused"
    assert two.received == []


TIMEOUTS = {
    "first byte": ({"first_byte_s": 0.05}, []),
    "between bytes, before the first event": ({"between_bytes_s": 0.05}, [STREAM]),
    "total": ({"total_s": 0.05}, [STREAM]),
}


@pytest.mark.parametrize("name", TIMEOUTS)
async def test_an_engine_that_hangs_is_given_up(name: str, engine: Start, router: Start) -> None:
    timeouts, pieces = TIMEOUTS[name]
    one = await engine(saying(*pieces, close=False))
    served = await router(one, await engine(), timeouts=timeouts)
    answer = await served.chat(stream=True)
    assert (answer.status, reason(answer)) == (504, "upstream_timeout")
    await one.left.wait()
    assert served.placed == 0


async def test_a_stream_that_stops_gets_an_error_event(engine: Start, router: Start) -> None:
    one = await engine(saying(STREAM, chunk(TOKEN), close=False))
    served = await router(one, timeouts={"between_bytes_s": 0.05})
    answer = await served.chat(stream=True)
    assert b'"code":"upstream_timeout"' in answer.body
    await one.left.wait()


async def test_retries_are_bounded_and_leave_out_who_failed(engine: Start, router: Start) -> None:
    engines = [await engine(saying(whole(500, b"{}"))) for _ in range(5)]
    served = await router(*engines, retries={"attempts": 2})
    answer = await served.chat()
    assert (answer.status, reason(answer)) == (502, "upstream_error")
    assert sorted(len(one.received) for one in engines) == [0, 0, 1, 1, 1]


async def test_engines_that_failed_are_tried_before_anybody_is_refused(engine: Start, router: Start) -> None:
    """Both breakers are open, as after a start on a machine without a free core; then the engines recover."""
    recovered = (await engine()).script
    engines = [await engine(saying(whole(500, b"{}"))) for _ in range(2)]
    served = await router(*engines, retries={"attempts": 0}, breaker={"open_s": 30})
    assert [(await served.chat()).status for _ in range(8)] == [502] * 8
    assert not any(member.available for member in served.fleet.members())
    for one in engines:
        one.script = recovered
    assert [(await served.chat()).status for _ in range(8)] == [200] * 8


async def test_an_engine_that_is_not_there(engine: Start, router: Start) -> None:
    gone, works = await engine(), await engine()
    served = await router(gone, works)
    gone.stop()
    assert [(await served.chat()).status for _ in range(3)] == [200] * 3
    alone = await router(gone)
    answer = await alone.chat()
    assert (answer.status, reason(answer)) == (502, "upstream_unreachable")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_cancels_its_engine(
    *, streamed: bool, engine: Start, router: Start
) -> None:
    one = await engine(saying(*([STREAM, chunk(TOKEN)] if streamed else []), close=False))
    served = await router(one)
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": streamed})
    asking = asyncio.ensure_future(_leave_early(served.pool, body))
    while not one.received:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    asking.cancel()
    await one.left.wait()
    while served.gateway.in_flight:
        await asyncio.sleep(0.001)
    assert served.outcomes() == {(499, "client_gone"): 1}
    assert served.placed == 0


async def _leave_early(pool: Any, body: bytes) -> None:
    async with stream(pool, "POST", "/v1/chat/completions", body=body):
        await asyncio.Event().wait()


async def test_a_client_that_leaves_a_split_request_cancels_both_legs(engine: Start, router: Start) -> None:
    prefill, decode = (
        await engine(saying(close=False)),
        await engine(saying(STREAM, chunk(TOKEN), close=False)),
    )
    served = await router(
        prefill, decode, roles=["prefill", "decode"], connector="sglang", model={"local_prefill_tokens": 0}
    )
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
    asking = asyncio.ensure_future(_leave_early(served.pool, body))
    while not (prefill.received and decode.received):
        await asyncio.sleep(0.001)
    asking.cancel()
    await prefill.left.wait()
    await decode.left.wait()
    assert served.placed == 0


SPLIT = {
    "prefill fails": ("nixl", saying(whole(500, b"{}")), None),
    "prefill closes": ("nixl", saying(), None),
    "prefill answers no JSON": ("nixl", saying(whole(200, b"x")), None),
    "decode fails": ("nixl", None, saying(whole(500, b"{}"))),
    "decode closes": ("nixl", None, saying()),
    "prefill fails while decode waits": ("sglang", saying(whole(500, b"{}")), saying(close=False)),
    "decode fails while prefill waits": ("sglang", saying(close=False), saying(whole(500, b"{}"))),
    "prefill dies while decode waits": ("mooncake", saying(), saying(close=False)),
}


@pytest.mark.parametrize("name", SPLIT)
async def test_legs_fail_together(name: str, engine: Start, router: Start) -> None:
    connector, bad_prefill, bad_decode = SPLIT[name]
    prefill = await (engine(bad_prefill) if bad_prefill else engine())
    decode = await (engine(bad_decode) if bad_decode else engine())
    served = await router(
        prefill,
        decode,
        roles=["prefill", "decode"],
        connector=connector,
        model={"local_prefill_tokens": 0},
        retries={"attempts": 0},
    )
    answer = await served.chat(stream=True)
    assert answer.status == 502
    assert reason(answer).startswith("upstream_")
    assert served.placed == 0
    assert served.gateway.in_flight == 0
    if "while" in name:
        await (decode if name.startswith("prefill") else prefill).left.wait()


async def test_a_split_request_is_retried_with_a_new_room(engine: Start, router: Start) -> None:
    bad, good, decode = await engine(saying(whole(500, b"{}"))), await engine(), await engine()
    served = await router(
        bad,
        good,
        decode,
        roles=["prefill", "prefill", "decode"],
        connector="sglang",
        model={"local_prefill_tokens": 0},
    )
    assert (await served.chat(stream=True)).body.endswith(DONE)
    rooms = {got.body["bootstrap_room"] for got in (*bad.received, *good.received)}
    assert len(rooms) == len(bad.received) + len(good.received) == 2
    assert served.placed == 0


async def test_prefill_without_parameters_leaves_the_prompt_to_decode(engine: Start, router: Start) -> None:
    prefill = await engine(saying(whole(200, b'{"choices":[],"kv_transfer_params":null}'), close=False))
    decode = await engine()
    served = await router(
        prefill, decode, roles=["prefill", "decode"], connector="nixl", model={"local_prefill_tokens": 0}
    )
    assert (await served.chat()).status == 200
    assert "kv_transfer_params" not in decode.received[0].body


async def test_prefills_own_400_is_the_answer(engine: Start, router: Start) -> None:
    prefill, decode = await engine(saying(whole(400, b'{"error":{}}'))), await engine()
    served = await router(
        prefill, decode, roles=["prefill", "decode"], connector="nixl", model={"local_prefill_tokens": 0}
    )
    answer = await served.chat()
    assert (answer.status, answer.body) == (400, b'{"error":{}}')
    assert decode.received == []
    assert served.placed == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.sampled_from(
            [STREAM, chunk(TOKEN), TOKEN, STOP, chunk(STOP), chunk(DONE), chunk(b""), chunk(ENGINE_ERROR)]
        )
        | st.binary(max_size=60),
        max_size=6,
    ),
    begin=st.sampled_from(
        [b"", STREAM, STREAM + chunk(TOKEN), b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n"]
    ),
    streamed=st.booleans(),
)
async def test_whatever_an_engine_says_the_client_gets_an_answer(
    pieces: list[bytes], begin: bytes, *, streamed: bool, engine: Start, router: Start
) -> None:
    served = await router(await engine(saying(begin, *pieces)), retries={"attempts": 0})
    answer = await served.chat(stream=streamed)
    complete = answer.status == 200 and (answer.body.endswith(DONE) or not streamed)
    assert complete or answer.status >= 400 or b'"error"' in answer.body
    assert served.gateway.in_flight == 0
    assert served.placed == 0
