"""Iteration times estimated by NVIDIA's `aiconfigurator` (the `profiles` extra), which composes them from kernels
that it measured on the accelerator. No figure of these is a measurement of a whole engine, and none is called so.
"""

import importlib
import logging
import math
from dataclasses import dataclass
from random import Random
from typing import Any

from pointsman.api.fitting import Point

LONGEST_CHUNK_TOKENS = 8192
LONGEST_CONTEXT_TOKENS = 32_000
MOST_SEQUENCES = 512
MOST_CONTEXT_TOKENS = 600_000
"""Of all sequences of an iteration together."""
MEMORY_SHARE = 0.9
"""vLLM's default `gpu_memory_utilization` in the versions that the estimates are of."""


class EstimateError(ValueError):
    """An estimate cannot be had; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is to be estimated, in aiconfigurator's words."""

    model: str
    """Hugging Face name."""
    system: str
    """Accelerator, such as `h100_sxm`."""
    tensor_parallel: int = 1
    backend: str = "vllm"


@dataclass(frozen=True, slots=True)
class KvEstimate:
    """Tokens of KV that fit, over all accelerators of the instance, and bytes of one token."""

    capacity_tokens: int
    bytes_per_token: int
    link_bytes_per_s: float
    """Of one accelerator to another node, by the vendor's figure."""


class Estimator:
    """Asks aiconfigurator for iterations of one shape.

    Raises EstimateError if it is not installed, or does not know the shape.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        try:
            self._config = importlib.import_module("aiconfigurator.sdk.config")
            databases = importlib.import_module("aiconfigurator.sdk.perf_database")
            models = importlib.import_module("aiconfigurator.sdk.models")
            backends = importlib.import_module("aiconfigurator.sdk.backends.factory")
            sessions = importlib.import_module("aiconfigurator.sdk.inference_session")
            self._steps = importlib.import_module("aiconfigurator_core.sdk.step_estimate")
            self._memory = importlib.import_module("aiconfigurator_core.sdk.memory")
        except ImportError as error:
            raise EstimateError(
                f"estimates need aiconfigurator ({error}); install it with: pip install 'pointsman[profiles]'"
            ) from error
        for library in ("aiconfigurator", "aiconfigurator_core"):
            logging.getLogger(library).setLevel(logging.ERROR)  # it tells of tables that we do not ask for
        self.version = databases.get_latest_database_version(system=shape.system, backend=shape.backend)
        if self.version is None:
            raise EstimateError(f"aiconfigurator has no measurements of {shape.backend} on {shape.system!r}")
        try:
            self._database = databases.get_database_view(
                shape.system,
                shape.backend,
                self.version,
                allow_missing_data=False,
                database_mode="SILICON",
            )
            self._parallel = {"tp_size": shape.tensor_parallel, "pp_size": 1}
            if models.check_is_moe(shape.model):
                self._parallel |= {"moe_tp_size": shape.tensor_parallel, "moe_ep_size": 1}
            model = models.get_model(shape.model, self._config.ModelConfig(**self._parallel), shape.backend)
            self._session: Any = sessions.InferenceSession(
                model, self._database, backends.get_backend(shape.backend)
            )
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            raise EstimateError(f"aiconfigurator cannot estimate {shape}: {error}") from error

    def points(self, seed: int, of_each_phase: int) -> list[Point]:
        """Iterations drawn log-uniformly over what an engine may run, with their estimated times."""
        rng = Random(seed)
        points = [self._prefill(rng) for _ in range(of_each_phase)]
        points += [self._decode(rng) for _ in range(of_each_phase)]
        points += [self._mixed(rng) for _ in range(of_each_phase)]
        return points

    def kv(self, max_batched_tokens: int, max_sequences: int) -> KvEstimate:
        """Room for KV beside weights and activations."""
        shape = self.shape
        try:
            found = self._memory.estimate_kv_cache(
                shape.model,
                shape.system,
                shape.backend,
                self.version,
                max_num_tokens=max_batched_tokens,
                max_batch_size=max_sequences,
                memory_fraction_kind="of_total",
                memory_fraction_value=MEMORY_SHARE,
                **self._parallel,
            )
        except ValueError as error:
            raise EstimateError(f"{shape} leaves no room for KV: {error}") from error
        return KvEstimate(
            capacity_tokens=int(found["total_kv_size_tokens"]) // 16 * 16,
            bytes_per_token=round(found["kv_size_per_token_bytes"]) * shape.tensor_parallel,
            link_bytes_per_s=float(self._database.system_spec["node"]["inter_node_bw"]),
        )

    def _prefill(self, rng: Random) -> Point:
        chunk = _log_uniform(rng, 16, LONGEST_CHUNK_TOKENS)
        prompts = max(1, min(_log_uniform(rng, 1, 8), LONGEST_CHUNK_TOKENS // chunk))
        before = rng.choice((0, 0, _log_uniform(rng, 16, LONGEST_CONTEXT_TOKENS)))
        runtime = self._config.RuntimeConfig(batch_size=prompts, isl=before + chunk, osl=1, prefix=before)
        time_ms = self._session.run_static_latency_only(runtime_config=runtime, mode="static_ctx", stride=1)
        return Point(prompts * chunk, prompts * chunk * (2 * before + chunk), 0, 0, float(time_ms), prompts)

    def _decode(self, rng: Random) -> Point:
        sequences = _log_uniform(rng, 1, MOST_SEQUENCES)
        most = max(64, min(LONGEST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS // sequences))
        context = _log_uniform(rng, 32, most)
        runtime = self._config.RuntimeConfig(batch_size=sequences, isl=context - 1, osl=2)
        time_ms = self._session.run_static_latency_only(runtime_config=runtime, mode="static_gen", stride=1)
        return Point(0, 0, sequences, sequences * context, float(time_ms))

    def _mixed(self, rng: Random) -> Point:
        """One prompt beside sequences that decode, their context as long as the prompt or longer."""
        chunk = _log_uniform(rng, 16, LONGEST_CHUNK_TOKENS)
        sequences = _log_uniform(rng, 1, max(2, min(MOST_SEQUENCES, MOST_CONTEXT_TOKENS // chunk)))
        more = rng.choice((2, _log_uniform(rng, 2, 2000)))
        runtime = self._config.RuntimeConfig(isl=chunk, osl=more)
        step = self._steps.MixedStepInput(chunk, sequences)
        time_ms = self._session.run_mixed(runtime, step).latency_ms
        context = sequences * (chunk + more // 2)
        return Point(chunk, chunk * chunk, sequences, context, float(time_ms))


def _log_uniform(rng: Random, low: int, high: int) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
