"""KV events over ZMQ, byte for byte as vLLM 0.32 publishes them (`distributed/kv_events.py`).

A PUB socket sends (topic, 8-byte big-endian sequence number, msgpack batch), one batch per iteration in which the
prefix cache changed. A ROUTER socket, where there is one, answers a starting number with every batch kept since, then
the number -1.
"""

import asyncio
from collections import deque
from itertools import count
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from pointsman.sim.engine import EngineRequest
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.options import KvEventOptions

_END = (-1).to_bytes(8, "big", signed=True)
_MEDIUM = "GPU"


class _Event(msgspec.Struct, omit_defaults=True, gc=False, tag=True):
    pass


class BlockStored(_Event):
    """Consecutive blocks of one sequence entered the cache."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[tuple[Any, ...] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class BlockRemoved(_Event):
    """Blocks left the cache."""

    block_hashes: list[int]
    medium: str | None
    group_idx: int | None = None


class KvEventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """What happened in one iteration. `ts`: seconds since 1970."""

    ts: float
    events: list[BlockStored | BlockRemoved]
    data_parallel_rank: int | None = None


class KvEventPublisher:
    """Publishes what happens to an instance's prefix cache. Made on the running event loop."""

    def __init__(self, instance: SimulatedInstance, options: KvEventOptions) -> None:
        """Raises OSError when an endpoint cannot be had."""
        self._instance = instance
        self._topic = options.topic.encode()
        self._pending: list[BlockStored | BlockRemoved] = []
        self._kept: deque[tuple[bytes, bytes]] = deque(maxlen=options.buffer_steps)
        self._numbers = count()
        self._encode = msgspec.msgpack.Encoder().encode
        self._context = zmq.Context()
        self._replay: zmq.asyncio.Socket | None = None
        self._replaying: asyncio.Task[None] | None = None
        self._publisher = self._context.socket(zmq.PUB)
        try:
            self._publisher.set_hwm(100_000)
            if _binds(options.endpoint):
                self._publisher.bind(options.endpoint)
            else:
                self._publisher.connect(options.endpoint)
            if options.replay_endpoint is not None:
                self._replay = zmq.asyncio.Context.shadow(self._context).socket(zmq.ROUTER)
                self._replay.bind(options.replay_endpoint)
                self._replaying = asyncio.create_task(self._serve_replay(self._replay))
        except zmq.ZMQError as error:
            self._close_sockets()
            raise OSError(error.errno, f"{options.endpoint}: {error.strerror}") from error
        instance.engine.watch_cache(self._stored, self._removed)
        instance.after_iteration.append(self._publish)

    async def close(self) -> None:
        if self._replaying is not None:
            self._replaying.cancel()
            await asyncio.gather(self._replaying, return_exceptions=True)
        self._close_sockets()

    def _close_sockets(self) -> None:
        # The context would wait for ever for a socket of its shadow's.
        if self._replay is not None:
            self._replay.close(linger=0)
        self._publisher.close(linger=0)
        self._context.term()

    def _stored(self, request: EngineRequest, first: int, stop: int) -> None:
        run = self._instance.run_of(request)
        if run is None or request.block_hash is None:
            return
        size = self._instance.options.profile.block_size
        self._pending.append(
            BlockStored(
                block_hashes=[request.block_hash(index) for index in range(first, stop)],
                parent_block_hash=request.block_hash(first - 1) if first else None,
                token_ids=run.answer.sequence.tokens(first * size, stop * size),
                block_size=size,
                lora_id=None if run.lora is None else self._instance.options.lora_names.index(run.lora) + 1,
                medium=_MEDIUM,
                lora_name=run.lora,
                extra_keys=[(run.lora,) if run.lora else None] * (stop - first),
                group_idx=0,
                kv_cache_spec_kind="full_attention",
            )
        )

    def _removed(self, block_hash: int) -> None:
        self._pending.append(BlockRemoved([block_hash], _MEDIUM, 0))

    def _publish(self) -> None:
        if not self._pending:
            return
        payload = self._encode(KvEventBatch(self._instance.wall_s(), self._pending, 0))
        number = next(self._numbers).to_bytes(8, "big")
        self._pending = []
        self._publisher.send_multipart((self._topic, number, payload))
        self._kept.append((number, payload))

    async def _serve_replay(self, replay: zmq.asyncio.Socket) -> None:
        while True:
            frames = await replay.recv_multipart()
            if len(frames) != 3:
                continue
            client, _, start = frames
            for number, payload in list(self._kept):
                if number >= start:
                    await replay.send_multipart((client, b"", self._topic, number, payload))
            await replay.send_multipart((client, b"", b"", _END, b""))


def _binds(endpoint: str) -> bool:
    """VLLM binds wildcards, ipc and inproc, and connects to the rest."""
    return "*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))
