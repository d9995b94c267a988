"""ServeGen's statistics of single clients, from files: `servegen_MODEL_rates.csv.gz` and `servegen_MODEL_lengths.jsonl.gz`.

The rates' columns are `client, window_start_s, rate_rps, iat_cv, iat_family (Gamma|Weibull), param1 (shape), param2 (scale)`;
windows that are left out had no requests, client -1 is the sum of all. A line of lengths is `client, window_start_s,
input_tokens, output_tokens`, the latter two {lower edge: probability} in bins whose edges are round(2^(k/8)). The mean of a
fitted law is not used: `rate_rps` is right where shape times scale is not.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from pointsman.sim.workload.clients import Client, GapLaw, Histogram, Lengths, Population, Window
from pointsman.sim.workload.trace_rows import TraceError, shown, text_lines

SOURCE = "ServeGen, Xiang et al. 2025 (Apache-2.0): production statistics of Alibaba Cloud Model Studio"
ALL_CLIENTS = "-1"
WINDOW_S = 600.0
COLUMNS = ("client", "window_start_s", "rate_rps", "iat_family", "param1")
LEAST_SHAPE = 0.01
"""Burstier laws than this would send everything in one instant."""
_EDGES = tuple(sorted({round(2 ** (k / 8)) for k in range(200)}))
_NEXT_EDGE = dict(pairwise(_EDGES))


def servegen_models(folder: Path) -> list[str]:
    """Models whose rates and lengths are both in the folder."""
    found = (path.name for path in folder.glob("servegen_*_rates.csv.gz"))
    models = sorted(name.removeprefix("servegen_").removesuffix("_rates.csv.gz") for name in found)
    return [model for model in models if (folder / f"servegen_{model}_lengths.jsonl.gz").is_file()]


def read_servegen(folder: Path, model: str) -> Population:
    """All clients of a model whose lengths are known. Raises TraceError."""
    lengths = _read_lengths(folder / f"servegen_{model}_lengths.jsonl.gz")
    rates, span_s = _read_rates(folder / f"servegen_{model}_rates.csv.gz")
    known = [name for name in sorted(rates, key=int) if name in lengths]
    if not known:
        raise TraceError(folder / f"servegen_{model}_rates.csv.gz", None, "client", "no client has lengths")
    clients = tuple(Client(f"client-{name}", rates[name], lengths[name]) for name in known)
    return Population(f"servegen-{model.replace('_', '-')}", SOURCE, span_s, clients)


def _read_rates(path: Path) -> tuple[dict[str, tuple[Window, ...]], float]:
    windows: defaultdict[str, list[Window]] = defaultdict(list)
    span_s = 0.0
    for line, row in _csv_rows(path):
        start_s = _number(path, line, row, "window_start_s", 0.0)
        span_s = max(span_s, start_s + WINDOW_S)
        if row["client"] == ALL_CLIENTS:
            continue
        if not row["client"].isdecimal():
            raise TraceError(path, line, "client", f"{shown(row['client'])} is no client's number")
        of_client = windows[row["client"]]
        end_s = of_client[-1].start_s + WINDOW_S if of_client else 0.0
        if of_client and start_s < end_s:
            raise TraceError(
                path, line, "window_start_s", f"{start_s:g} comes before {end_s:g}; sort by time"
            )
        if start_s > end_s:
            of_client.append(Window(end_s, 0.0))
        of_client.append(_window(path, line, row, start_s))
    for of_client in windows.values():
        end_s = of_client[-1].start_s + WINDOW_S
        if end_s < span_s:
            of_client.append(Window(end_s, 0.0))
    return {name: tuple(of_client) for name, of_client in windows.items()}, span_s


def _window(path: Path, line: int, row: Mapping[str, str], start_s: float) -> Window:
    rate = _number(path, line, row, "rate_rps", 0.0)
    if not row["iat_family"]:  # too few arrivals for a fit
        return Window(start_s, rate)
    if row["iat_family"] not in set(GapLaw):
        allowed = ", ".join(GapLaw)
        raise TraceError(path, line, "iat_family", f"{shown(row['iat_family'])} is none of {allowed}")
    shape = _number(path, line, row, "param1", 0.0)
    return Window(start_s, rate, GapLaw(row["iat_family"]), max(LEAST_SHAPE, shape))


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise TraceError(path, None, None, "is empty")
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise TraceError(path, 1, missing[0], f"is not among the columns {', '.join(header)}")
        for values in reader:
            if len(values) != len(header):
                problem = f"has {len(values)} fields where the header names {len(header)}"
                raise TraceError(path, reader.line_num, None, problem)
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise TraceError(path, reader.line_num, None, f"is not CSV: {error}") from error


def _number(path: Path, line: int, row: Mapping[str, Any], field: str, least: float) -> float:
    try:
        number = float(row.get(field, ""))
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        raise TraceError(path, line, field, f"{shown(row.get(field))} is not a number of at least {least:g}")
    return number


def _read_lengths(path: Path) -> dict[str, tuple[Lengths, ...]]:
    found: defaultdict[str, list[Lengths]] = defaultdict(list)
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise TraceError(path, number, None, f"is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TraceError(path, number, None, f"{shown(row)} is not a JSON object")
        start_s = _number(path, number, row, "window_start_s", 0.0)
        prompts, outputs = (
            _histogram(path, number, row, field) for field in ("input_tokens", "output_tokens")
        )
        found[str(row.get("client"))].append(Lengths(start_s, prompts, outputs))
    return {client: tuple(sorted(lengths, key=lambda one: one.start_s)) for client, lengths in found.items()}


def _histogram(path: Path, line: int, row: Mapping[str, Any], field: str) -> Histogram:
    given = row.get(field)
    if not isinstance(given, dict) or not given:
        raise TraceError(path, line, field, f"{shown(given)} is not an object of bins and probabilities")
    bins: dict[tuple[int, int], float] = {}
    for edge, weight in given.items():
        low = int(edge) if edge.isdecimal() else -1
        if low and low not in _NEXT_EDGE:
            raise TraceError(path, line, field, f"{shown(edge)} is no lower edge of a bin, round(2^(k/8))")
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise TraceError(path, line, field, f"{shown(weight)} is no probability")
        low = max(1, low)  # a request has at least a token, whatever was counted
        bins[low, _NEXT_EDGE[low]] = bins.get((low, _NEXT_EDGE[low]), 0.0) + weight
    try:
        return Histogram.of([(low, high, weight) for (low, high), weight in sorted(bins.items())])
    except ValueError as error:
        raise TraceError(path, line, field, "all its probabilities are 0") from error
