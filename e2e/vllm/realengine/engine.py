"""One real engine as a process: started with free ports, awaited, ended by its own pid."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from realengine.environment import Environment

MODEL = "tiny"
SITE = Path(__file__).parent.parent / "site"
LEASE_SECONDS = 12  # blocks that nobody pulls are freed then; vLLM's default is 30
READY_SECONDS = 400.0  # 15 s on an idle machine
PORTS = range(20_000, 32_000)


class EngineError(Exception):
    """The engine ended or stayed silent instead of becoming ready; shows the end of its log."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How an engine is started; `extra` are more of vLLM's own flags. One that `embeds` serves nothing else."""

    name: str
    kv_role: str = "kv_both"
    extra: tuple[str, ...] = ()
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class RealEngine:
    """A running vLLM, in a process group of its own. `kv_events` is its ZMQ endpoint."""

    spec: EngineSpec
    port: int
    kv_events: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to what is left of the group (engine core, worker)."""
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=15)
        self.kill()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has gone already
            os.killpg(self.process.pid, number)


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different.

    An engine binds its ports seconds after they were chosen. None is of the range from which systems take ports of
    outgoing connections (Linux from 32768, others from 49152), so that nobody's client sits on one by then.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise EngineError(
        f"only {len(found)} of {count} loopback ports from {PORTS.start} to {PORTS.stop} are free"
    )


WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""An engine leads a session of its own; it ends nonetheless when whoever started it is killed, as by a time limit of CI."""


def command(spec: EngineSpec, environment: Environment, port: int, kv_events: str) -> list[str]:
    return [
        *(str(environment.python), "-m", "vllm.entrypoints.cli.main", "serve", str(environment.model)),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)),
        *("--seed", "0", "--dtype", "float32", "--enforce-eager"),  # bfloat16 dies where AMX is fenced off
        *("--block-size", "32", "--max-model-len", "2048", "--max-num-seqs", "16"),
        *(("--runner", "pooling", "--convert", "embed") if spec.embeds else generating(spec, kv_events)),
        *spec.extra,
    ]


def generating(spec: EngineSpec, kv_events: str) -> list[str]:
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": kv_events, "topic": "kv"}
    transfer = {
        "kv_connector": "NixlConnector",
        "kv_role": spec.kv_role,
        "kv_buffer_device": "cpu",
        "kv_connector_extra_config": {"kv_lease_duration": LEASE_SECONDS},
    }
    return [
        *("--enable-scale-out", "--scheduling-policy", "priority"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--kv-events-config", json.dumps(events), "--kv-transfer-config", json.dumps(transfer)),
    ]


def environ(environment: Environment, side_port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(SITE),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": str(environment.engine_cache),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_port),
        "UCX_TLS": "tcp,self,sm",
    }


def start(spec: EngineSpec, environment: Environment, logs: Path) -> RealEngine:
    """Start an engine without waiting for it."""
    port, side_port = free_ports(2)
    logs.mkdir(parents=True, exist_ok=True)
    # The publisher binds to ipc:// and wildcards only; to a TCP address it would connect.
    kv_events = f"ipc://{logs.resolve()}/{spec.name}.kv"
    log = logs / f"{spec.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*WITH_US, *command(spec, environment, port, kv_events)],
            env=environ(environment, side_port),
            cwd=logs,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RealEngine(spec, port, kv_events, log, process)


def await_ready(engine: RealEngine, timeout_s: float = READY_SECONDS) -> None:
    """Wait until the engine answers /health. Raises EngineError."""
    deadline = time.monotonic() + timeout_s
    with httpx.Client(base_url=engine.url) as client:
        while time.monotonic() < deadline:
            if engine.process.poll() is not None:
                raise EngineError(
                    f"{engine.spec.name} ended with {engine.process.returncode}:\n{tail(engine.log)}"
                )
            with suppress(httpx.TransportError):
                if client.get("/health").status_code == 200:
                    return
            time.sleep(0.2)
    raise EngineError(f"{engine.spec.name} was not ready after {timeout_s:.0f} s:\n{tail(engine.log)}")


@contextmanager
def running(specs: Sequence[EngineSpec], environment: Environment, logs: Path) -> Iterator[list[RealEngine]]:
    """Engines side by side, ready; none is left behind."""
    engines = [start(spec, environment, logs) for spec in specs]
    try:
        for engine in engines:
            await_ready(engine)
        yield engines
    finally:
        for engine in engines:
            engine.signal(signal.SIGTERM)
        for engine in engines:
            engine.stop()


def tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
