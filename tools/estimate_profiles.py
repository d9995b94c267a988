"""Writes the shipped profiles that are estimates anew (needs the `profiles` extra).

python tools/estimate_profiles.py [--out core/pointsman/api/profiles] [NAME ...]
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from pointsman.core.perf import AcceleratorClass
from pointsman.profiling.compose import estimated_profile
from pointsman.profiling.estimate import Estimator, Shape

LLAMA_8B = "meta-llama/Meta-Llama-3.1-8B"
LLAMA_70B = "meta-llama/Meta-Llama-3.1-70B"
QWEN_32B = "Qwen/Qwen3-32B"
MIXTURE = "Qwen/Qwen3-30B-A3B"
A100, H100 = AcceleratorClass.A100, AcceleratorClass.H100


class Wanted(NamedTuple):
    shape: Shape
    accelerator_class: AcceleratorClass


WANTED: dict[str, Wanted] = {
    "a100-llama3.1-8b": Wanted(Shape(LLAMA_8B, "a100_sxm"), A100),
    "a100-llama3.1-70b-tp4": Wanted(Shape(LLAMA_70B, "a100_sxm", 4), A100),
    "h100-llama3.1-8b": Wanted(Shape(LLAMA_8B, "h100_sxm"), H100),
    "h100-llama3.1-70b-tp4": Wanted(Shape(LLAMA_70B, "h100_sxm", 4), H100),
    "h100-qwen3-32b-tp2": Wanted(Shape(QWEN_32B, "h100_sxm", 2), H100),
    "h100-qwen3-30b-a3b": Wanted(Shape(MIXTURE, "h100_sxm"), H100),
    "h200-llama3.1-8b": Wanted(Shape(LLAMA_8B, "h200_sxm"), H100),
    "h200-llama3.1-70b-tp4": Wanted(Shape(LLAMA_70B, "h200_sxm", 4), H100),
    "b200-llama3.1-8b": Wanted(Shape(LLAMA_8B, "b200_sxm"), H100),
    "b200-llama3.1-70b-tp2": Wanted(Shape(LLAMA_70B, "b200_sxm", 2), H100),
    "b200-qwen3-32b": Wanted(Shape(QWEN_32B, "b200_sxm"), H100),
    "b200-qwen3-30b-a3b": Wanted(Shape(MIXTURE, "b200_sxm"), H100),
    "l40s-llama3.1-8b": Wanted(Shape(LLAMA_8B, "l40s"), A100),
    "l40s-qwen3-32b-tp4": Wanted(Shape(QWEN_32B, "l40s", 4), A100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("core/pointsman/api/profiles"))
    parser.add_argument("names", nargs="*", default=list(WANTED), help="all by default")
    arguments = parser.parse_args()
    for name in arguments.names:
        wanted = WANTED[name]
        profile, _ = estimated_profile(name, Estimator(wanted.shape), wanted.accelerator_class)
        path = arguments.out / f"{name}.json"
        path.write_text(profile.model_dump_json(indent=2) + "\n", encoding="utf-8")
        print(path, {phase: error.model_dump() for phase, error in profile.provenance.left_out.items()})


if __name__ == "__main__":
    main()
