"""Derives the shipped populations from ServeGen's statistics: `python tools/fit_servegen.py FOLDER`.

The clients with most requests stay themselves, with a rate for every hour and the law of gaps that most of their requests
came under; all others together become one, Poisson, as sums of many are. Lengths are weighted by requests over all windows,
in bins twice as wide (on a logarithmic scale) as the source's.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pointsman.sim.workload.clients import Client, GapLaw, Histogram, Population
from pointsman.sim.workload.servegen import SOURCE, read_servegen
from pointsman.sim.workload.shipped import HOUR_S

TARGET = Path("sim/pointsman/sim/workload/populations")
MODELS = ("deepseek_r1", "m_large")
KEPT = 12
DIGITS = 4
LEAST_SHARE = 1e-4
"""Of lengths: rarer bins are left out."""
MOST_HOURS = 48

Weights = dict[tuple[int, int], float]


def fit(population: Population) -> dict[str, Any]:
    span_s = min(population.span_s, MOST_HOURS * HOUR_S)
    by_size = sorted(population.clients, key=lambda client: -sum(hourly(client, span_s)))
    clients = [one(client, span_s) for client in by_size[:KEPT]]
    if rest := by_size[KEPT:]:
        clients.append(together(rest, span_s))
    return {"name": population.name, "source": SOURCE, "span_s": span_s, "clients": clients}


def one(client: Client, span_s: float) -> dict[str, Any]:
    law, shape = usual_law(client, span_s)
    return described(client.name, law, shape, [hourly(client, span_s)], [client], span_s)


def together(clients: list[Client], span_s: float) -> dict[str, Any]:
    rates = [hourly(client, span_s) for client in clients]
    return described("others", GapLaw.GAMMA, 1.0, rates, clients, span_s)


def described(
    name: str, law: GapLaw, shape: float, rates: list[list[float]], clients: list[Client], span_s: float
) -> dict[str, Any]:
    return {
        "name": name,
        "gap_law": str(law),
        "gap_shape": rounded(shape),
        "requests_per_s": [rounded(sum(hour)) for hour in zip(*rates, strict=True)],
        "prompt_tokens": mixed(clients, span_s, "prompt_tokens"),
        "output_tokens": mixed(clients, span_s, "output_tokens"),
    }


def hourly(client: Client, span_s: float) -> list[float]:
    """Mean rate of every hour."""
    rates = [0.0] * round(span_s / HOUR_S)
    for start_s, end_s, rate in pieces(client, span_s):
        for hour in range(int(start_s // HOUR_S), len(rates)):
            overlap_s = min(end_s, (hour + 1) * HOUR_S) - max(start_s, hour * HOUR_S)
            if overlap_s <= 0:
                break
            rates[hour] += rate * overlap_s / HOUR_S
    return rates


def pieces(client: Client, span_s: float) -> list[tuple[float, float, float]]:
    ends = [window.start_s for window in client.windows[1:]] + [span_s]
    return [
        (window.start_s, min(end, span_s), window.requests_per_s)
        for window, end in zip(client.windows, ends, strict=True)
        if window.start_s < span_s
    ]


def usual_law(client: Client, span_s: float) -> tuple[GapLaw, float]:
    """The family of most requests, and the median of its shapes, weighted by requests."""
    of_law: defaultdict[GapLaw, list[tuple[float, float]]] = defaultdict(list)
    for window, (start_s, end_s, rate) in zip(client.windows, pieces(client, span_s), strict=False):
        if rate > 0:
            of_law[window.law].append((window.shape, rate * (end_s - start_s)))
    if not of_law:
        return GapLaw.GAMMA, 1.0
    law = max(of_law, key=lambda name: sum(requests for _, requests in of_law[name]))
    shapes, half = sorted(of_law[law]), sum(requests for _, requests in of_law[law]) / 2
    for shape, requests in shapes:
        half -= requests
        if half <= 0:
            return law, shape
    return law, shapes[-1][0]


def mixed(clients: list[Client], span_s: float, field: str) -> list[list[float]]:
    """Lengths of all their requests, as [first length, length after the last, share]."""
    weights: Weights = defaultdict(float)
    for client in clients:
        starts = [lengths.start_s for lengths in client.lengths]
        for start_s, end_s, rate in pieces(client, span_s):
            index = max([number for number, begin in enumerate(starts) if begin <= start_s], default=0)
            spread(weights, getattr(client.lengths[index], field), rate * (end_s - start_s))
    total = sum(weights.values())
    bins = sorted(weights.items())
    wide: list[list[float]] = []
    for number, ((low, high), weight) in enumerate(bins):
        if number % 2 and wide and wide[-1][1] == low:
            wide[-1][1:] = [high, wide[-1][2] + weight / total]
        else:
            wide.append([low, high, weight / total])
    return [[low, high, rounded(share)] for low, high, share in wide if share >= LEAST_SHARE]


def spread(weights: Weights, histogram: Histogram, requests: float) -> None:
    below = 0.0
    for low, high, upto in zip(histogram.edges, histogram.edges[1:], histogram.cumulative, strict=False):
        if upto > below:
            weights[low, high] += requests * (upto - below)
        below = upto


def rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def main() -> None:
    for model in MODELS:
        found = fit(read_servegen(Path(sys.argv[1]), model))
        path = TARGET / f"{found['name']}.json"
        path.write_text(json.dumps(found, separators=(",", ":")) + "\n")
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
