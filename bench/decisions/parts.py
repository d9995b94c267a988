"""A trace in two parts, the first to tune on and the rest to measure on, and windows of a part.

A window is as many requests as a run needs, at about the rate it needs: copies of the part run beside each other, each shifted
cyclically by a time drawn from the seed, sharing nothing (the rule of `--rate-scale`, the first copy shifted, too).
Windows are traces of their own, on disk.
"""

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from decisions.settings import Setting

from pointsman.sim.workload.named import open_workload

TRAINING_SHARE = 0.4
FOLDER = Path("build/decisions/parts")
MOST_COMPRESSION = 4
COLUMNS = ("timestamp_s", "prompt_tokens", "output_tokens", "hash_ids", "session_id")
GENERATED_HOURS = {"training": 0, "measured": 6}
"""Where in the day a generator's parts begin, the whole day being squeezed into an hour."""


@dataclass(frozen=True)
class Row:
    at_s: float
    prompt_tokens: str
    output_tokens: str
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """Some consecutive requests of a trace."""

    name: str
    rows: tuple[Row, ...]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return (len(self.rows) - 1) / (self.rows[-1].at_s - self.rows[0].at_s)


@dataclass(frozen=True)
class Window:
    """A trace on disk."""

    path: Path
    rate: float
    """Requests per second."""


def parts(trace: Path) -> tuple[Part, Part]:
    """Training part and measured part, by order of arrival."""
    with gzip.open(trace, "rt", encoding="utf-8", newline="") as lines:
        rows = [
            Row(
                float(line["timestamp_s"]),
                line["prompt_tokens"],
                line["output_tokens"],
                tuple(map(int, line.get("hash_ids", "").split())),
            )
            for line in csv.DictReader(lines)
        ]
    cut = int(len(rows) * TRAINING_SHARE)
    stem = trace.name.removesuffix(".csv.gz")
    return Part(f"{stem}-training", tuple(rows[:cut])), Part(f"{stem}-measured", tuple(rows[cut:]))


def windows(setting: Setting, data: Path, part: str, seeds: tuple[int, ...]) -> dict[int, Window]:
    """One a seed. `part` is training or measured."""
    requests = setting.training_requests if part == "training" else setting.measured_requests
    source: Part | None = None
    made = {}
    for seed in seeds:
        path = FOLDER / f"{setting.trace}-{setting.profile}-{part}-{requests}-{seed}.csv"
        if not path.exists():
            if setting.generated:
                rows = _generated(setting, part, requests, seed)
            else:
                if source is None:
                    training, measured = parts(data / f"{setting.trace}.csv.gz")
                    source = training if part == "training" else measured
                rows = window_of(source, requests, setting.first_guess, setting.spread_s, seed)
            _write(path, rows, setting.session_block)
        made[seed] = Window(path, _rate(path))
    return made


def window_of(part: Part, requests: int, rate: float, spread_s: float, seed: int) -> list[Row]:
    """The first `requests` of enough copies of the part to have them, none squeezed more than 4-fold for `rate`."""
    copies = math.ceil(max(rate / part.rate / MOST_COMPRESSION, requests / len(part.rows)))
    period_s = len(part.rows) / part.rate
    rng = Random(f"{part.name}/{seed}")
    start_s = part.rows[0].at_s
    rows: list[Row] = []
    for copy in range(copies):
        shift_s = rng.uniform(0.0, period_s)
        for row in part.rows:
            at_s = row.at_s - start_s - shift_s + (rng.uniform(0.0, spread_s) if spread_s else 0.0)
            ids = tuple([hash_id * copies + copy for hash_id in row.hash_ids])
            rows.append(Row(at_s % period_s, row.prompt_tokens, row.output_tokens, ids))
    return sorted(rows, key=lambda row: row.at_s)[:requests]


def _generated(setting: Setting, part: str, requests: int, seed: int) -> list[Row]:
    start_s = GENERATED_HOURS[part] * 3600 / 18
    name = f"gen:{setting.trace}?rate={setting.first_guess}&requests={requests}&seed={seed}&span=3600&start={start_s}"
    return [Row(one.arrival_s, str(one.prompt_tokens), str(one.output_tokens)) for one in open_workload(name)]


def _write(path: Path, rows: list[Row], session_block: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS if session_block is not None else COLUMNS[:3])
        writer.writerows(_fields(rows, session_block))
    partial.replace(path)


def _fields(rows: list[Row], session_block: int | None) -> Iterator[list[str]]:
    for row in rows:
        fields = [f"{row.at_s:.4f}", row.prompt_tokens, row.output_tokens]
        if session_block is not None:
            known = len(row.hash_ids) > session_block
            fields += [" ".join(map(str, row.hash_ids)), str(row.hash_ids[session_block]) if known else ""]
        yield fields


def _rate(path: Path) -> float:
    with path.open(encoding="utf-8", newline="") as lines:
        times = [float(line["timestamp_s"]) for line in csv.DictReader(lines)]
    return (len(times) - 1) / (times[-1] - times[0])
