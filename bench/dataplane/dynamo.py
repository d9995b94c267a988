"""NVIDIA Dynamo's frontend with its own mocked workers, in a network namespace: it listens on more than loopback."""

import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dataplane.environments import DYNAMO
from dataplane.load import BUILD, INTERVAL_MS, MODEL, WORDS
from dataplane.machine import Cores
from dataplane.network import own_namespace, require_ready
from dataplane.processes import Running
from dataplane.sides import Endpoint, Side

WORKERS = 4
PLANES = ("--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq")
PORT = 8000
INSTANT = ("--speedup-ratio", "0")
"""Workers answer at once."""


def steady_pace() -> tuple[str, ...]:
    """Workers bring a token every 20 ms however many streams they have: a performance profile that is flat."""
    file = BUILD / "dynamo-steady.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    axis = np.array([0.0, 1e6])
    np.savez(
        file,
        prefill_isl=axis,
        prefill_ttft_ms=np.full(2, 1.0),
        decode_active_kv_tokens=axis,
        decode_context_length=axis,
        decode_itl=np.full((2, 2), float(INTERVAL_MS)),
    )
    return ("--planner-profile-data", str(file))


def tokenizer_folder() -> Path:
    """A tokenizer trained on the bench's own words (whole words in one token, as real ones do) and made-up ones."""
    folder = BUILD / "dynamo-tokenizer"
    if not (folder / "generation_config.json").exists():
        rng = random.Random(7)
        made_up = [
            "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 9))) for _ in range(6000)
        ]
        text = "\n".join(
            [" ".join(rng.choices(WORDS, k=20) + rng.choices(made_up, k=20)) for _ in range(3000)]
        )
        script = Path(__file__).with_name("tokenizer_folder.py")
        python = DYNAMO.path() / "bin" / "python"
        subprocess.run([python, script, folder], input=text, text=True, check=True)
    return folder


def dynamo(mode: str, pace: tuple[str, ...]) -> Side:
    """Dynamo with a routing mode of its own (`kv`, `round-robin`) and the pace of its workers."""

    @contextmanager
    def start(_engine_ports: Sequence[int], cores: Cores) -> Iterator[Endpoint]:
        python = str(DYNAMO.path() / "bin" / "python")
        folder = str(tokenizer_folder())
        with tempfile.TemporaryDirectory() as home, own_namespace(cores.load) as network:
            env = {
                "HOME": home,
                "DYN_FILE_KV": f"{home}/kv",
                "DYN_LOG": "error",
                "HF_HUB_OFFLINE": "1",
            }
            workers_argv = [*network.prefix, python, "-m", "dynamo.mocker", "--model-path", folder, *PLANES]
            workers_argv += ["--model-name", MODEL, "--num-workers", str(WORKERS)]
            workers_argv += pace
            frontend_argv = [*network.prefix, python, "-m", "dynamo.frontend", *PLANES, "--router-mode", mode]
            frontend_argv += ["--http-host", "127.0.0.1", "--http-port", str(PORT)]
            frontend_argv += ["--router-min-initial-workers", str(WORKERS)]
            logs = BUILD / "logs"
            with (
                Running(workers_argv, core=cores.load, log=logs / "dynamo-mocker.log", env=env) as workers,
                Running(
                    frontend_argv, core=cores.router, log=logs / "dynamo-frontend.log", env=env
                ) as frontend,
            ):
                require_ready(frontend, network, PORT, "/v1/models", MODEL)
                yield Endpoint(PORT, frontend, network, helpers=(workers,))

    name = "dynamo" if mode == "kv" else f"dynamo_{mode.replace('-', '_')}"
    return Side(name, start, own_engines=True, exact_streams=False)
