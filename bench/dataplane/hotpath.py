"""What our router's own code costs per request and per chunk, without sockets: for finding where the time goes.

    PYTHONPATH=bench python -m dataplane.hotpath [--profile request|chunk]

Everything between the event loop's two calls is real: client connection, gateway, decision, session, upstream
connection. Only the transports are fakes that swallow what is written. The least of many short batches is taken, so that
the figure is steady on a machine where others work, too.
"""

import argparse
import asyncio
import cProfile
import itertools
import pstats
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from dataplane.load import API_KEY, BUILD, write_bodies
from dataplane.ours import config
from pointsman.api.router_config import RouterConfig
from pointsman.http.connection import Connection
from pointsman.router.app import RouterApp
from pointsman.router.front import ClientConnection
from pointsman.router.server import PublicServer
from pointsman.router.settings import settings_of

BATCHES = 60
REQUESTS, CHUNKS = 200, 2000
ANSWER = (
    b'{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion","created":1700000000,"model":"bench",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"%b","refusal":null,"tool_calls":[]},"logprobs":null,'
    b'"finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":250,"total_tokens":266,"completion_tokens":16,'
    b'"prompt_tokens_details":null},"prompt_logprobs":null,"kv_transfer_params":null}'
) % (b"lorem " * 106)
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","choices":[{"index":0,"delta":{"content":" 1234567890123"},"logprobs":null,"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Sink(asyncio.Transport):
    """Takes everything."""

    def write(self, data: Any) -> None:
        pass

    def writelines(self, list_of_data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Wired:
    """A router with one client connection and one connection to each engine, none of them real."""

    def __init__(self) -> None:
        file = BUILD / "hotpath.yaml"
        instances = [{"url": f"http://127.0.0.1:{port}"} for port in range(7101, 7105)]
        router_config = RouterConfig.model_validate(config(instances, 1, 2))
        app = RouterApp(router_config, file)
        app._fleet.apply(router_config, None)
        self.upstream: list[Connection] = []
        for member in app._fleet.members():
            app._fleet.alive(member)
            pool = member.upstream.pool
            connection = Connection(pool)
            connection.connection_made(Sink())
            pool._all.add(connection)
            pool.release(connection)
            self.upstream.append(connection)
        settings = settings_of(router_config)
        server = PublicServer(app._gateway, settings.limits, settings.client_timeouts, app._sweeper)
        self.client = ClientConnection(server)
        self.client.connection_made(Sink())

    def engine(self) -> Connection:
        """The connection that has a request now."""
        return next(each for each in self.upstream if each.exchange is not None)


def requests(*, stream: bool) -> Iterator[bytes]:
    """Whole requests, each with a number of its own, without end."""
    bodies = write_bodies(BUILD / "hotpath.jsonl", stream=stream, max_tokens=250).read_bytes().splitlines()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\ncontent-type: application/json\r\n"
    head += b"authorization: Bearer " + API_KEY.encode() + b"\r\ncontent-length: %d\r\n\r\n"
    for number in itertools.count():
        body = bodies[number % len(bodies)].replace(b"########", b"%08x" % number)
        yield head % len(body) + body


def request_batch(wired: Wired) -> Callable[[], None]:
    source = requests(stream=False)

    def batch() -> None:
        for raw in itertools.islice(source, REQUESTS):
            wired.client.data_received(raw)
            wired.engine().data_received(RESPONSE)

    return batch


def chunk_batch(wired: Wired) -> Callable[[], None]:
    wired.client.data_received(next(requests(stream=True)))
    engine = wired.engine()
    engine.data_received(STREAM_HEAD + CHUNK)

    def batch() -> None:
        for _ in range(CHUNKS):
            engine.data_received(CHUNK)

    return batch


def least_us(batch: Callable[[], None], size: int) -> float:
    """CPU microseconds per item of the fastest batch."""
    best = float("inf")
    for _ in range(BATCHES):
        before = time.process_time_ns()
        batch()
        best = min(best, (time.process_time_ns() - before) / size / 1e3)
    return best


async def run(profiled: str) -> None:
    for name, make, size in (("request", request_batch, REQUESTS), ("chunk", chunk_batch, CHUNKS)):
        if profiled and profiled != name:
            continue
        batch = make(Wired())
        batch()
        if profiled:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(10):
                batch()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        else:
            print(f"{name}: {least_us(batch, size):.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m dataplane.hotpath", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--profile", choices=("request", "chunk"), default="", help="where the time goes, by cProfile"
    )
    arguments = parser.parse_args()
    Path(BUILD).mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.profile))


if __name__ == "__main__":
    main()
