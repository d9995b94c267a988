"""One real vLLM on the CPU, with a core for the model and another for everything else.

The worker (the model) has one core, as it has an accelerator elsewhere. The engine's core (the scheduler, which waits for
the worker in a loop that burns its core), the API server (HTTP, tokenising, detokenising) and the load client share the
other.

Its matrices are multiplied by oneDNN, which makes a kernel for every new number of tokens in an iteration. That takes
longer than the iteration, so each number is computed once before anything is measured, and all kernels are kept.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from realengine.engine import MODEL, EngineSpec, RealEngine, await_ready, free_ports
from realengine.environment import Environment
from realengine.tiny_model import VOCABULARY

WORKER_CORE, SERVING_CORE = 0, 1
KERNELS = 1 << 15
"""That oneDNN keeps: four shapes of matrices for each number of tokens, and room."""
FIRST = -20
"""Priority of processes that nothing else may keep waiting."""
BLOCK_TOKENS = 32
KV_GIB = 1


@dataclass(frozen=True)
class EngineLimits:
    """What the engine runs under, told to the simulator, too."""

    batched_tokens: int = 256
    sequences: int = 32
    context_tokens: int = 2048


MODELS: Mapping[str, Mapping[str, Any]] = {
    # As in the environment: an iteration is almost all host code.
    "tiny": {},
    # Weights that the engine draws: an iteration is mostly arithmetic, as on an accelerator.
    "small": {
        "num_hidden_layers": 4,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
    },
}


def command(environment: Environment, model: str, limits: EngineLimits, port: int) -> list[str]:
    overrides = MODELS[model]
    drawn = ("--load-format", "dummy", "--hf-overrides", json.dumps(overrides)) if overrides else ()
    return [
        *("taskset", "--cpu-list", str(SERVING_CORE)),
        *(str(environment.python), "-m", "vllm.entrypoints.cli.main", "serve", str(environment.model)),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)),
        *("--seed", "0", "--dtype", "float32", "--enforce-eager"),
        *("--block-size", str(BLOCK_TOKENS), "--max-model-len", str(limits.context_tokens)),
        *("--max-num-seqs", str(limits.sequences), "--max-num-batched-tokens", str(limits.batched_tokens)),
        *("--disable-uvicorn-access-log", *drawn),
    ]


def environ(environment: Environment) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": str(environment.engine_cache),
        "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": str(WORKER_CORE),
        "OMP_NUM_THREADS": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(KERNELS),
        "VLLM_NO_USAGE_STATS": "1",
    }


@contextmanager
def running(
    environment: Environment, model: str, limits: EngineLimits, logs: Path, *, first: bool = False
) -> Iterator[RealEngine]:
    """The engine, ready and warm, put `first` or not. Nothing of it is left behind the block. Raises EngineError."""
    (port,) = free_ports(1)
    log = logs / f"vllm-{model}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command(environment, model, limits, port),
            env=environ(environment),
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = RealEngine(EngineSpec(model), port, "", log, process)
    try:
        if first:
            put_first(process.pid)
        await_ready(engine)
        compute_every_size(engine.url, limits)
        yield engine
    finally:
        engine.stop()


def put_first(pid: int) -> None:
    """A process that leads its session, and all that it starts, before whatever else the machine does. Needs root.

    Sessions share a core's time before their processes do, where the kernel groups them (sched_autogroup).
    """
    os.setpriority(os.PRIO_PROCESS, pid, FIRST)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text(str(FIRST), encoding="utf-8")


def compute_every_size(url: str, limits: EngineLimits) -> None:
    """A prompt of each number of tokens that an iteration may have. Raises httpx.HTTPError."""
    rng = Random(0)
    with httpx.Client(base_url=url, timeout=60) as client:
        for tokens in range(1, limits.batched_tokens + 1):
            prompt = [rng.randrange(10, VOCABULARY) for _ in range(tokens)]
            body = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
            client.post("/v1/completions", json=body).raise_for_status()
