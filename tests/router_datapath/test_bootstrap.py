"""Mooncake's bootstrap server: a prefill engine is used once its id is known, and its restart makes the id unknown."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import orjson
import pytest

from pointsman.router.connectors.bootstrap import NoEngineIdError, engine_id
from pointsman.router.health import Watch

Start = Callable[..., Awaitable[Any]]

RANKS = {"1": {"engine_id": "b", "worker_addr": {}}, "0": {"engine_id": "a", "worker_addr": {}}}


def answering(status: int, body: bytes) -> Any:
    async def script(one: Any, got: Any, writer: asyncio.StreamWriter) -> None:
        answer = (status, body) if got.path == "/query" else (200, b"")
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (answer[0], len(answer[1]), answer[1])
        )

    return script


async def test_the_first_ranks_id(engine: Start) -> None:
    one = await engine(answering(200, orjson.dumps(RANKS)))
    assert await engine_id("127.0.0.1", one.port, 5.0) == "a"


NO_ID = {"empty": b"{}", "no JSON": b"<html>", "a list": b"[]", "no id": b'{"0":{}}', "odd rank": b'{"x":{}}'}


@pytest.mark.parametrize("name", NO_ID)
async def test_no_id(name: str, engine: Start) -> None:
    one = await engine(answering(200, NO_ID[name]))
    with pytest.raises(NoEngineIdError, match="/query"):
        await engine_id("127.0.0.1", one.port, 5.0)


async def test_nobody_there(unused_port: int) -> None:
    with pytest.raises(NoEngineIdError, match="/query"):
        await engine_id("127.0.0.1", unused_port, 5.0)


@pytest.mark.parametrize("known", [b'{"0":{"engine_id":"a"}}', b"{}"])
async def test_a_prefill_engine_is_used_once_its_id_is_known(
    known: bytes, engine: Start, router: Start
) -> None:
    prefill, decode = await engine(answering(200, known)), await engine(answering(200, b""))
    instances = [
        {"url": prefill.url, "role": "prefill", "connector": "mooncake", "bootstrap_port": prefill.port},
        {"url": decode.url, "role": "decode", "connector": "mooncake"},
    ]
    served = await router(prefill, decode, roles=["mixed"] * 2, model={"instances": instances})
    members = [served.fleet.member(one.url) for one in (prefill, decode)]
    for member in members:
        served.fleet.dead(member, "not asked yet", refused=False)
    watch = Watch(asyncio.get_running_loop().time, Random(1))
    watch.apply(served.fleet, served.config)
    await watch.first_round(10.0)
    await watch.close()
    assert members[1].healthy
    assert members[0].healthy is (known != b"{}")
    assert members[0].upstream.engine_id == ("a" if members[0].healthy else "")
