"""KV events, read as vLLM's subscribers read them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from pointsman.simengine.options import KvEventOptions

Connect = Callable[[int, str], Any]
BODY = {"prompt": "a" * 400, "max_tokens": 20, "ignore_eos": True}


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Sockets that give up after 10 s instead of hanging, closed in the end."""
    context = zmq.Context()
    sockets: list[Any] = []

    def connect_one(kind: int, endpoint: str) -> Any:
        socket = context.socket(kind)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(endpoint)
        sockets.append(socket)
        return socket

    yield connect_one
    for socket in sockets:
        socket.close(linger=0)
    context.term()


@pytest.fixture
def subscribe(connect: Connect) -> Callable[[str, str], Any]:
    def subscribe_to(endpoint: str, topic: str) -> Any:
        socket = connect(zmq.SUB, endpoint)
        socket.subscribe(topic)
        return socket

    return subscribe_to


@pytest.fixture
def options(tmp_path: Path) -> KvEventOptions:
    return KvEventOptions(f"ipc://{tmp_path}/events", f"ipc://{tmp_path}/replay", topic="kv")


def received(socket: Any) -> list[tuple[bytes, int, list[Any]]]:
    batches = []
    while socket.poll(200):
        topic, number, payload = socket.recv_multipart()
        batches.append((topic, int.from_bytes(number, "big"), msgspec.msgpack.decode(payload)))
    return batches


async def test_blocks_are_told_in_order(start: Any, options: KvEventOptions, subscribe: Any) -> None:
    client = await start(kv_events=options)
    subscriber = subscribe(options.endpoint, "kv")
    await asyncio.sleep(0.2)
    await client.complete(**BODY)
    batches = await asyncio.to_thread(received, subscriber)
    assert [number for _, number, _ in batches] == list(range(len(batches)))
    assert {topic for topic, _, _ in batches} == {b"kv"}
    _, events, rank = batches[0][2]
    assert rank == 0
    [prompt] = events
    assert prompt["type"] == "BlockStored"
    assert len(prompt["block_hashes"]) == 100 // 16
    assert prompt["parent_block_hash"] is None
    assert prompt["token_ids"] == (await client.post("/tokenize", prompt="a" * 96 * 4)).json()["tokens"]
    assert (prompt["block_size"], prompt["medium"], prompt["lora_name"]) == (16, "GPU", None)
    [answer] = batches[1][2][1]
    assert answer["parent_block_hash"] == prompt["block_hashes"][-1]


async def test_evicted_blocks_are_told(start: Any, options: KvEventOptions, subscribe: Any) -> None:
    client = await start(kv_events=options, kv_capacity_tokens=160)
    subscriber = subscribe(options.endpoint, "")
    await asyncio.sleep(0.2)
    stored: set[int] = set()
    for letter in "abc":
        await client.complete(**{**BODY, "prompt": letter * 400})
    for _, _, (_, events, _) in await asyncio.to_thread(received, subscriber):
        for event in events:
            if event["type"] == "BlockStored":
                stored.update(event["block_hashes"])
            else:
                assert event["type"] == "BlockRemoved"
                stored.difference_update(event["block_hashes"])
    assert len(stored) == client.server.instance.engine.pool.cached


async def test_replay_from_a_number(start: Any, options: KvEventOptions, connect: Connect) -> None:
    client = await start(kv_events=options)
    for letter in "abc":
        await client.complete(**{**BODY, "prompt": letter * 400, "max_tokens": 1})
    request = connect(zmq.DEALER, options.replay_endpoint or "")
    request.send_multipart((b"", (1).to_bytes(8, "big")))

    def replies() -> list[int]:
        numbers: list[int] = []
        while not numbers or numbers[-1] != -1:
            _, _, number, _ = request.recv_multipart()
            numbers.append(int.from_bytes(number, "big", signed=True))
        return numbers

    assert await asyncio.to_thread(replies) == [1, 2, -1]


async def test_an_endpoint_that_cannot_be_had(start: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        await start(kv_events=KvEventOptions(f"ipc://{tmp_path}/nowhere/events"))
