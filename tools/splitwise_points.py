"""Writes Splitwise's measurements as points that `pointsman profile fit` and `check` read.

python tools/splitwise_points.py --data DIR --accelerator a100|h100 --out FILE

Llama-2-70B on eight accelerators, medians of repeats, prefill up to 8,192 tokens. DIR holds splitwise_perf.csv.gz.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from pathlib import Path
from statistics import median

from pointsman.profiling.points import Measured, write_points

MOST_PREFILL_TOKENS = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--accelerator", choices=("a100", "h100"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    points = splitwise_points(arguments.data / "splitwise_perf.csv.gz", arguments.accelerator)
    write_points(arguments.out, points)
    print(f"{arguments.out}: {len(points)} points")


def splitwise_points(path: Path, accelerator: str) -> list[Measured]:
    """Raises OSError."""
    times: defaultdict[tuple[int, int, int, int, int], list[float]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if (row["model"], row["gpu"], row["tp"]) != ("llama2-70b", f"{accelerator}-80gb", "8"):
                continue
            prompt, batch = int(row["prompt_tokens"]), int(row["batch_size"])
            if row["phase"] == "decode_step":
                times[0, 0, 0, batch, int(row["context_tokens"])].append(float(row["time_ms"]))
            elif row["phase"] == "prefill" and prompt * batch <= MOST_PREFILL_TOKENS:
                times[prompt, 0, batch, 0, 0].append(float(row["time_ms"]))
    return [Measured(*asked, median(found)) for asked, found in sorted(times.items())]


if __name__ == "__main__":
    main()
