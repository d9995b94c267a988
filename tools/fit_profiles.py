"""Writes the shipped engine profiles anew from measured points.

    python tools/fit_profiles.py --data DIR [--out core/pointsman/api/profiles]

DIR holds splitwise_perf.csv.gz, distserve_fit_coefficients.csv.gz, distserve_kv_capacity_tokens.csv.gz,
vidur_model_shapes.csv.gz and vidur_network.csv.gz; their columns and sources are in the README beside them.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from pointsman.api.fitting import (
    Knees,
    Point,
    fit,
    left_out_errors,
    relative_error,
    summarise,
)
from pointsman.api.profile import CostFile, EngineProfileFile, ProvenanceFile
from pointsman.core.perf import AcceleratorClass
from pointsman.profiling.compose import rounded

METHOD = (
    "non-negative least squares on relative errors over the form of pointsman.core.perf.IterationCost; "
    "hinges chosen by leave-one-out error; coefficients rounded to picoseconds"
)
BYTES_PER_VALUE = 2  # fp16 weights and KV
Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("core/pointsman/api/profiles"))
    arguments = parser.parse_args()
    data = arguments.data
    profiles = [opt_13b(data, tensor_parallel) for tensor_parallel in (1, 2, 4)]
    profiles += [llama2_70b(data, source) for source in (A100_SPLITWISE, H100_SPLITWISE)]
    for profile in profiles:
        path = arguments.out / f"{profile.name}.json"
        path.write_text(profile.model_dump_json(indent=2) + "\n", encoding="utf-8")
        print(path, {phase: error.model_dump() for phase, error in profile.provenance.left_out.items()})


def read(path: Path, **wanted: str) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [
            row for row in csv.DictReader(lines) if all(row[key] == value for key, value in wanted.items())
        ]
    if not rows:
        raise SystemExit(f"{path}: no row with {wanted}")
    return rows


def opt_13b(data: Path, tensor_parallel: int) -> EngineProfileFile:
    """DistServe publishes fitted formulas, not points: they are evaluated on a grid within the KV capacity."""
    model, engine, degree = "facebook/opt-13b", "distserve", str(tensor_parallel)
    phases = {
        row["phase"]: row
        for row in read(data / "distserve_fit_coefficients.csv.gz", model=model, engine=engine, tp=degree)
    }
    capacity_rows = read(data / "distserve_kv_capacity_tokens.csv.gz", model=model, tp=degree, pp="1")
    capacity = int(capacity_rows[0]["max_num_tokens"])
    knees = Knees(prefill=(), decode=(32, 64, 95, 128))
    points = _distserve_grid(phases, capacity, (1, 8, 24, 48, 80, 94, 95, 128, 160, 192, 256))
    cost = fit(points, knees)
    unseen = _distserve_grid(phases, capacity, (2, 16, 32, 64, 88, 100, 112, 144, 176, 224))
    errors = {
        "prefill": summarise([relative_error(cost, point) for point in unseen if point.prefill_tokens]),
        "decode": summarise([relative_error(cost, point) for point in unseen if not point.prefill_tokens]),
    }
    layers, hidden = 40, 5120
    return EngineProfileFile(
        name="a100-opt-13b" if tensor_parallel == 1 else f"a100-opt-13b-tp{degree}",
        model=model,
        engine=engine,
        accelerator="a100-80gb",
        accelerator_class=AcceleratorClass.A100,
        tensor_parallel=tensor_parallel,
        cost=CostFile.from_cost(cost),
        kv_capacity_tokens=capacity,
        kv_bytes_per_token=2 * BYTES_PER_VALUE * layers * hidden,
        transfer_bytes_per_s=tensor_parallel * _transfer_bytes_per_s(data),
        provenance=ProvenanceFile(
            source="LLMServe/DistServe@82831f1604cc simdistserve/estimators/profile_data, A100-80GB, "
            f"tp {degree}: its fitted "
            "formulas prefill a + b*sum(n) + c*sum(n^2), decode a + b*context + c*batch below and from batch 95, "
            "evaluated on a grid of batches and contexts within the KV capacity",
            licence="Apache-2.0",
            method=METHOD + "; errors are of formula values at batches and contexts that the fit did not see",
            points_used=len(points),
            left_out={phase: rounded(error) for phase, error in errors.items()},
            kv_capacity="the same source, pp 1",
            kv_bytes_per_token="2 (keys, values) * 2 bytes * 40 layers * 5120 hidden, from the public model card",
            transfer=_TRANSFER
            + (
                "; one GPU, one link"
                if tensor_parallel == 1
                else f"; {degree} GPUs, each moving its shard over a link of its own, is an assumption"
            ),
            caveats=(
                "the source's two decode formulas do not meet at batch 95; one convex curve runs between them",
                "the context limit of the model itself, 2048, is not imposed: the KV capacity is the limit",
                "the time of an iteration that mixes prefill and decode is composed, not measured",
            ),
        ),
    )


def _distserve_grid(
    phases: Mapping[str, Mapping[str, str]], capacity: int, batches: Sequence[int]
) -> list[Point]:
    def formula(phase: str, first: float, second: float) -> float:
        row = phases[phase]
        return float(row["a_ms"]) + float(row["b_ms_per_token"]) * first + float(row["c"]) * second

    points = []
    for batch in batches:
        if batch <= 32:
            for prompt in (16 + batch, 128, 512, 1000 + batch, 2048):
                if batch * prompt <= 16_384:
                    time_ms = formula("prefill", batch * prompt, batch * prompt**2)
                    points.append(Point(batch * prompt, batch * prompt**2, 0, 0, time_ms))
        threshold = int(phases["decoding_smallbs"]["decode_batch_threshold"])
        phase = "decoding_smallbs" if batch < threshold else "decoding_largebs"
        points.extend(
            Point(0, 0, batch, batch * context, formula(phase, batch * context, batch))
            for context in (32 + batch, 256, 700, 2000 + batch)
            if batch * context <= capacity
        )
    return points


class Splitwise(NamedTuple):
    """One accelerator of Splitwise's measurements, and what to say of it."""

    accelerator: str
    node: str
    accelerator_class: AcceleratorClass
    most_prefill_tokens: int
    """Iterations with more are left out of fit and errors."""
    caveats: tuple[str, ...]


A100_SPLITWISE = Splitwise(
    "a100",
    "DGX-A100",
    AcceleratorClass.A100,
    1 << 30,
    (
        (
            "prefill of many short prompts costs more here than one prompt of as many tokens; a cost per prompt holds "
            "that, and the fit sees no cost of attention over a long prompt (ta = 0)"
        ),
    ),
)
H100_SPLITWISE = Splitwise(
    "h100",
    "DGX-H100",
    AcceleratorClass.H100,
    8192,
    (
        (
            "prefill of 16 prompts or fewer and up to 8192 tokens; 32 and 64 prompts of 512 tokens at once were measured "
            "cheaper per token than the fit extrapolates"
        ),
    ),
)


def llama2_70b(data: Path, source: Splitwise) -> EngineProfileFile:
    rows = read(data / "splitwise_perf.csv.gz", model="llama2-70b", gpu=f"{source.accelerator}-80gb", tp="8")
    by_point: defaultdict[tuple[int, int, int, int, int], list[float]] = defaultdict(list)
    for row in rows:
        prompt, batch = int(row["prompt_tokens"]), int(row["batch_size"])
        if row["phase"] == "prefill" and prompt * batch <= source.most_prefill_tokens:
            by_point[prompt * batch, batch * prompt**2, 0, 0, batch].append(float(row["time_ms"]))
        elif row["phase"] == "decode_step":
            by_point[0, 0, batch, batch * int(row["context_tokens"]), 1].append(float(row["time_ms"]))
    points = [Point(*point[:4], median(times), point[4]) for point, times in sorted(by_point.items())]
    knees = Knees(prefill=(256, 512, 2048), decode=(8, 16, 32))
    shape = read(data / "vidur_model_shapes.csv.gz", model="meta-llama/Llama-2-70b-hf")[0]
    kv_bytes = 2 * BYTES_PER_VALUE * int(shape["n_layers_public"]) * _kv_width(shape)
    gpus, gpu_bytes, parameters = 8, 80e9, 68.98e9
    free_bytes = 0.9 * gpus * gpu_bytes - BYTES_PER_VALUE * parameters
    return EngineProfileFile(
        name=f"{source.accelerator}-llama2-70b-tp8",
        model="meta-llama/Llama-2-70b-hf",
        engine="splitwise",
        accelerator=f"{source.accelerator}-80gb",
        accelerator_class=source.accelerator_class,
        tensor_parallel=gpus,
        cost=CostFile.from_cost(fit(points, knees)),
        kv_capacity_tokens=int(free_bytes / kv_bytes) // 16 * 16,
        kv_bytes_per_token=kv_bytes,
        transfer_bytes_per_s=gpus * _transfer_bytes_per_s(data),
        provenance=ProvenanceFile(
            source=f"Mutinifni/splitwise-sim@8f99e7dc9b40 data/perf_model.csv, {source.node}, llama2-70b, tp 8: medians of "
            "repeats; prefill of 1 to 64 prompts, decode steps of batches of 1 to 64",
            licence="MIT",
            method=METHOD + "; errors are of points left out one by one, choice of hinges included",
            points_used=len(points),
            left_out={phase: rounded(error) for phase, error in left_out_errors(points, knees).items()},
            kv_capacity="estimate: 0.9 of 8 * 80 GB less 2 bytes for each of 68.98e9 weights, over the bytes per token",
            kv_bytes_per_token="2 (keys, values) * 2 bytes * 80 layers * 8 KV heads * 128, shapes from microsoft/vidur",
            transfer=_TRANSFER
            + "; eight GPUs, each moving its shard over a link of its own, is an assumption",
            caveats=(
                "no point covers a large batch and a long prompt; decode beyond batch 64 is extrapolated",
                *source.caveats,
                "the serving software of 2023; newer stacks are faster",
                "the time of an iteration that mixes prefill and decode is composed, not measured",
            ),
        ),
    )


def _kv_width(shape: Mapping[str, str]) -> int:
    head = int(shape["n_embd"]) // int(shape["n_head"])
    return int(shape["n_kv_head"]) * head


_TRANSFER = (
    "microsoft/vidur@7d47513363ec data/profiling/network (MIT): slope of time over size of send_recv between two "
    "DGX-A100 nodes, one GPU each, from 1 MB up"
)


def _transfer_bytes_per_s(data: Path) -> float:
    rows = read(
        data / "vidur_network.csv.gz",
        node="a100_dgx",
        collective="send_recv",
        num_workers="2",
        devices_per_node="1",
    )
    large = [(float(row["size"]), float(row["time_ms"]) / 1e3) for row in rows if float(row["size"]) >= 1e6]
    slope = np.polyfit([size for size, _ in large], [seconds for _, seconds in large], 1)[0]
    return float(round(1 / slope, -7))


if __name__ == "__main__":
    main()
