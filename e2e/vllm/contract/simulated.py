"""Two simulated engines, started as anyone would start them, shaped like the real ones of this suite."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from contract.answers import MODEL
from contract.endings import Doomed

SPEED = 10
LEASE_S = 1.0


@dataclass(frozen=True, slots=True)
class SimulatedEngine:
    url: str
    kv_events: str
    process: subprocess.Popen[str]


@contextmanager
def running(name: str, folder: Path, profile: str, *extra: str) -> Iterator[SimulatedEngine]:
    """One engine with a 2,048-token context, blocks of 32 and 16 sequences, that keeps its files in `folder`."""
    kv_events = f"ipc://{folder}/{name}.kv"
    command = [
        *(str(Path(sys.executable).with_name("pointsman")), "engine", "--profile", profile, "--port", "0"),
        *("--model", MODEL, "--max-model-len", "2048", "--max-sequences", "16", "--speed", str(SPEED)),
        *("--kv-lease", str(LEASE_S * SPEED), "--kv-events-endpoint", kv_events, "--kv-events-topic", "kv"),
        *("--no-prompt-tokens-details", *extra),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulated engine ended with {process.wait()}")
        yield SimulatedEngine(line.split()[3], kv_events, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def doomed(folder: Path, name: str, *, grace_s: float) -> Iterator[Doomed]:
    """One that a scenario of `contract.endings` ends."""
    profile = blocks_of_32(folder)
    with running(name.replace(" ", "-"), folder, profile, "--grace", str(grace_s)) as engine:
        yield Doomed(engine.url, engine.process.send_signal, engine.process.send_signal)


@contextmanager
def pair(folder: Path) -> Iterator[tuple[SimulatedEngine, SimulatedEngine]]:
    """Two that can pull from each other; the second has 96 blocks, as vLLM has with 97, one of which it never uses."""
    profile = blocks_of_32(folder)
    with ExitStack() as stack:
        one = stack.enter_context(running("one", folder, profile))
        yield (
            one,
            stack.enter_context(running("other", folder, profile, "--kv-capacity-tokens", str(96 * 32))),
        )


def blocks_of_32(folder: Path) -> str:
    """A shipped profile with the real engines' block size."""
    shipped = resources.files("pointsman.api") / "profiles" / "a100-opt-13b.json"
    path = folder / "profile.json"
    path.write_text(json.dumps(json.loads(shipped.read_text()) | {"block_size": 32}))
    return str(path)
