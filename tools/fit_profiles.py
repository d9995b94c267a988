"""Fit the shipped engine profiles from measured points: python tools/fit_profiles.py DATA_DIR [OUT_DIR].

DATA_DIR holds distserve_fit_coefficients.csv.gz, distserve_kv_capacity_tokens.csv.gz and splitwise_perf.csv.gz.
The fit is a non-negative least squares on relative errors: each equation is divided by its measured time, so that
a millisecond weighs more on a decode step than on a long prefill. Every fifth point is left out and scored.
"""

import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

PS_PER_MS = 1_000_000_000
A100_NIC_BYTES_PER_S = 25e9  # 200 Gb/s InfiniBand per GPU, as in Splitwise's DGX-A100
STARTUP = {"cold_s": 180.0, "image_cached_s": 90.0, "weights_cached_s": 40.0, "asleep_s": 3.0}


@dataclass(frozen=True)
class Point:
    """One measured iteration: tokens as in `core.perf`, and its time."""

    phase: str
    prefill_tokens: float
    attention: float
    batch: float
    context_tokens: float
    time_ms: float

    def row(self, knee: int) -> list[float]:
        beyond = max(0.0, self.batch - knee) if knee else 0.0
        return [1.0, self.prefill_tokens, self.attention, self.batch, self.context_tokens, beyond]


def rows(path: Path) -> Iterable[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def distserve_points(data: Path) -> list[Point]:
    """DistServe publishes fitted formulas, not points: they are evaluated over the range they were fitted on."""
    formulas = {
        row["phase"]: [float(row[key]) for key in ("a_ms", "b_ms_per_token", "c")]
        for row in rows(data / "distserve_fit_coefficients.csv.gz")
        if (row["model"], row["tp"], row["engine"]) == ("facebook/opt-13b", "1", "distserve")
    }
    a, b, c = formulas["prefill"]
    points = [
        Point("prefill", tokens, tokens**2 / 2, 0, 0, a + b * tokens + c * tokens**2)
        for tokens in (64, 96, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 1792, 2048)
    ]
    for batch in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 80, 94, 96, 112, 128, 160, 192):
        a, b, c = formulas["decoding_smallbs" if batch < 95 else "decoding_largebs"]
        for context in (128, 256, 512, 1024):
            total = batch * context
            if total <= 66_144:
                points.append(Point("decode", 0, 0, batch, total, a + b * total + c * batch))
    return points


def splitwise_points(data: Path) -> list[Point]:
    points = []
    for row in rows(data / "splitwise_perf.csv.gz"):
        if (row["model"], row["gpu"], row["tp"]) != ("llama2-70b", "a100-80gb", "8"):
            continue
        batch, prompt = float(row["batch_size"]), float(row["prompt_tokens"])
        time_ms = float(row["time_ms"])
        if row["phase"] == "prefill":
            points.append(Point("prefill", batch * prompt, batch * prompt**2 / 2, 0, 0, time_ms))
        elif row["phase"] == "decode_step":
            context = batch * float(row["context_tokens"])
            points.append(Point("decode", 0, 0, batch, context, time_ms))
    return points


def fit(points: list[Point], knee: int) -> np.ndarray:
    matrix = np.array([point.row(knee) for point in points])
    times = np.array([point.time_ms for point in points])
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(matrix / scale / times[:, None], np.ones(len(points)))
    return np.asarray(solution / scale)


def errors(points: list[Point], coefficients: np.ndarray, knee: int) -> dict[str, float]:
    off = [abs(float(np.dot(p.row(knee), coefficients)) / p.time_ms - 1) for p in points]
    return {
        "points": len(off),
        "median": round(float(np.median(off)), 4),
        "p90": round(float(np.quantile(off, 0.9)), 4),
    }


def profile(
    points: list[Point], knee: int, facts: dict[str, object], source: dict[str, str]
) -> dict[str, object]:
    kept = [point for number, point in enumerate(points) if number % 5 != 2]
    left_out = [point for number, point in enumerate(points) if number % 5 == 2]
    trial = fit(kept, knee)

    def scored(phase: str) -> dict[str, float]:
        return errors([point for point in left_out if point.phase == phase], trial, knee)

    final = [round(float(value) * PS_PER_MS) for value in fit(points, knee)]
    names = ["t0_ps", "tp_ps", "ta_ps", "tb_ps", "tc_ps", "tk_ps"]
    return {
        **facts,
        "cost": {**dict(zip(names, final, strict=True)), "knee": knee},
        "startup": STARTUP,
        "provenance": {
            **source,
            "method": "non-negative least squares on relative errors; every fifth point left out for the errors,"
            " the coefficients fitted on all",
            "points": len(points),
            "held_out_prefill": scored("prefill"),
            "held_out_decode": scored("decode"),
        },
    }


def opt_13b(data: Path) -> dict[str, object]:
    capacity = next(
        int(row["max_num_tokens"])
        for row in rows(data / "distserve_kv_capacity_tokens.csv.gz")
        if (row["model"], row["tp"], row["pp"]) == ("facebook/opt-13b", "1", "1")
    )
    facts: dict[str, object] = {
        "name": "a100-opt-13b",
        "model": "facebook/opt-13b",
        "engine": "distserve",
        "accelerator": "a100-80gb",
        "accelerator_class": "a100",
        "tensor_parallel": 1,
        "kv_capacity_tokens": capacity,
        "kv_bytes_per_token": 2 * 40 * 5120 * 2,  # K and V, layers, hidden size, float16
        "transfer_bytes_per_s": A100_NIC_BYTES_PER_S,
    }
    source = {
        "source": "LLMServe/DistServe@82831f1604cc simdistserve/estimators/profile_data (OPT-13B, engine distserve,"
        " tp 1): fitted formulas, evaluated",
        "licence": "Apache-2.0",
    }
    return profile(distserve_points(data), 95, facts, source)


def llama2_70b(data: Path) -> dict[str, object]:
    bytes_per_token = 2 * 80 * 8 * 128 * 2  # K and V, layers, KV heads, head size, float16
    weights = 69e9 * 2
    facts: dict[str, object] = {
        "name": "a100-llama2-70b-tp8",
        "model": "meta-llama/Llama-2-70b-hf",
        "engine": "unrecorded",
        "accelerator": "a100-80gb",
        "accelerator_class": "a100",
        "tensor_parallel": 8,
        # 90% of 8 x 80 GB less the weights.
        "kv_capacity_tokens": int((0.9 * 8 * 80e9 - weights) / bytes_per_token) // 16 * 16,
        "kv_bytes_per_token": bytes_per_token,
        "transfer_bytes_per_s": 8 * A100_NIC_BYTES_PER_S,
    }
    source = {
        "source": "Mutinifni/splitwise-sim@8f99e7dc9b40 data/perf_model.csv (llama2-70b, DGX-A100, tp 8): medians",
        "licence": "MIT",
    }
    return profile(splitwise_points(data), 0, facts, source)


PROFILES: list[Callable[[Path], dict[str, object]]] = [opt_13b, llama2_70b]


def main(data: Path, out: Path) -> None:
    for make in PROFILES:
        fitted = make(data)
        path = out / f"{fitted['name']}.json"
        path.write_text(json.dumps(fitted, indent=2) + "\n")
        print(path, fitted["cost"], fitted["provenance"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "core/pointsman/api/profiles"))
