"""A trace in two parts: the first to tune on, the rest to measure on."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

TRAINING_SHARE = 0.4
FOLDER = Path("build/decisions/parts")


@dataclass(frozen=True)
class Part:
    """Some consecutive requests of a trace, as a trace of their own."""

    path: Path
    requests: int
    rate: float
    """Requests per second."""


def parts(trace: Path) -> tuple[Part, Part]:
    """Training part and measured part, by order of arrival."""
    with gzip.open(trace, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    cut = int(len(rows) * TRAINING_SHARE)
    stem = trace.name.removesuffix(".csv.gz")
    return (
        _write(FOLDER / f"{stem}-training.csv", columns, rows[:cut]),
        _write(FOLDER / f"{stem}-measured.csv", columns, rows[cut:]),
    )


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> Part:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    span_s = float(rows[-1]["timestamp_s"]) - float(rows[0]["timestamp_s"])
    return Part(path, len(rows), (len(rows) - 1) / span_s)
