"""How soon a client that leaves is felt by both engines of its request: `python -m dataplane.disconnects`.

Our router as a process of its own, in front of a prefill and a decode engine in this one, both legs at once (SGLang's
connector). Other streams get a token a second meanwhile. Client after client reads its first token and closes; the
time is from that until both engines have seen their connections end. Writes build/bench/dataplane-disconnects.json.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field

import orjson
import uvloop
import yaml

from dataplane import machine
from dataplane.load import BUILD, MODEL, free_ports
from dataplane.network import HOST, require_ready
from dataplane.ours import command
from dataplane.processes import Running

TOKEN = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
TOKEN_S = 1.0
WITHIN_MS = 100.0


@dataclass
class Engine:
    """Streams tokens until it is left, and remembers when it was, by the request's room."""

    prefill: bool
    left: dict[int, "asyncio.Future[float]"] = field(default_factory=dict)
    """When, by room."""
    last_room: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                room = orjson.loads(await reader.readexactly(length))["bootstrap_room"]
                self.last_room = room
                self.left[room] = asyncio.get_running_loop().create_future()
                telling = asyncio.create_task(self._tell(writer))
                try:
                    await reader.read(1)
                finally:
                    self.left[room].set_result(time.monotonic())
                    telling.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        if not self.prefill:  # whose leg answers nothing while it computes
            writer.write(HEAD)
            while True:
                writer.write(CHUNK)
                await asyncio.sleep(TOKEN_S)


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has brought its first token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = orjson.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "x"}]})
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await reader.readuntil(TOKEN)
    return reader, writer


async def measure(port: int, engines: tuple[Engine, Engine], clients: int, streams: int) -> list[float]:
    """Milliseconds, one per client that left."""
    others = [await opened(port) for _ in range(streams)]
    reading = [asyncio.create_task(reader.read()) for reader, _ in others]
    times = []
    for number in range(clients):
        _, writer = await opened(port)
        room = engines[1].last_room
        await asyncio.sleep(0.01 + 0.001 * (number % 20))
        begin_s = time.monotonic()
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()
        left_s = await asyncio.gather(*(engine.left[room] for engine in engines))
        times.append(1000.0 * (max(left_s) - begin_s))
    for task, (_, writer) in zip(reading, others, strict=True):
        task.cancel()
        writer.close()
    return times


async def main(clients: int, streams: int) -> None:
    cores = machine.choose_cores()
    engines = Engine(prefill=True), Engine(prefill=False)
    ports = free_ports(4)
    servers = [
        await asyncio.start_server(engine.serve, "127.0.0.1", port)
        for engine, port in zip(engines, ports[:2], strict=True)
    ]
    instances = [
        {"url": f"http://127.0.0.1:{port}", "role": role, "connector": "sglang"}
        for port, role in zip(ports[:2], ("prefill", "decode"), strict=True)
    ]
    file = BUILD / "disconnects.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        yaml.safe_dump(
            {
                "models": [{"name": MODEL, "instances": instances}],
                "listen": {"port": ports[2]},
                "admin": {"port": ports[3]},
            }
        )
    )
    log = BUILD / "logs" / "disconnects.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv, env = command(file)
    with Running(argv, core=cores.router, log=log, env=env) as router:
        await asyncio.to_thread(require_ready, router, HOST, ports[3], "/ready", "")
        times = sorted(await measure(ports[2], engines, clients, streams))
    for server in servers:
        server.close()
    at = {
        name: times[min(len(times) - 1, int(share * len(times)))]
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    found = {
        "clients": clients,
        "other_streams": streams,
        "ms": {**at, "max": times[-1]},
        "machine": machine.facts(),
    }
    (BUILD / "dataplane-disconnects.json").write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{clients} clients left beside {streams} streams; both engines felt it after "
        f"{at['p50']:.2f} ms (p50), {at['p99']:.2f} ms (p99), {times[-1]:.2f} ms at most"
        f"{'' if times[-1] <= WITHIN_MS else ': TOO LATE'}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dataplane.disconnects", description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--streams", type=int, default=500)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.clients, arguments.streams))
