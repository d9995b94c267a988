"""Generated workloads beside the traces and statistics they are drawn after, where those are at hand."""

import csv
import gzip
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pointsman.sim.workload.clients import ClientsWorkload, Population
from pointsman.sim.workload.named import open_workload
from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.servegen import read_servegen, servegen_models
from pointsman.sim.workload.shipped import SHIPPED, load_population
from pointsman.sim.workload.trace import TraceFile

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
AT_HAND = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces in {TRACES}: nothing to compare with")
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
PAIRS = {
    "azure-conv": "azure2023_conv",
    "azure-code": "azure2023_code",
    "mooncake-conv": "mooncake_conversation",
    "mooncake-synthetic": "mooncake_synthetic",
}
HOUR_S = 3600.0


def lengths(requests: Iterable[TraceRequest], field: str) -> np.ndarray:
    return np.array([getattr(request, field) for request in requests])


def hits(requests: Iterable[TraceRequest]) -> float:
    """Of an endless cache."""
    seen: set[int] = set()
    hit = total = 0
    for request in requests:
        found = 0
        while found < len(request.hash_ids) and request.hash_ids[found] in seen:
            found += 1
        hit += found
        total += len(request.hash_ids)
        seen.update(request.hash_ids)
    return hit / max(1, total)


@AT_HAND
@pytest.mark.parametrize("name", PAIRS)
def test_lengths_rate_and_prefixes_are_the_traces(name: str) -> None:
    trace = list(TraceFile(TRACES / f"{PAIRS[name]}.csv.gz"))
    drawn = list(open_workload(f"gen:{name}?requests=20000&seed=1"))
    for field in ("prompt_tokens", "output_tokens"):
        ours, theirs = (np.quantile(lengths(of, field), QUANTILES) for of in (drawn, trace))
        # A quantile in a gap of the law may lie anywhere in it: shares are compared where values are not near.
        near = np.isclose(ours, theirs, rtol=0.15, atol=3)
        shares = [(lengths(drawn, field) <= value).mean() for value in theirs]
        assert (near | np.isclose(shares, QUANTILES, atol=0.02)).all(), (field, ours, theirs)
    assert (len(drawn) - 1) / drawn[-1].arrival_s == pytest.approx(len(trace) / trace[-1].arrival_s, rel=0.1)
    assert hits(drawn) == pytest.approx(hits(trace), abs=0.04)


@AT_HAND
@pytest.mark.parametrize("name", ["azure-conv", "azure-code"])
def test_gaps_are_as_bursty_as_the_traces(name: str) -> None:
    def cv(requests: list[TraceRequest]) -> float:
        gaps = np.diff(lengths(requests, "arrival_s"))
        return float(gaps.std() / gaps.mean())

    trace = list(TraceFile(TRACES / f"{PAIRS[name]}.csv.gz"))
    assert cv(list(open_workload(f"gen:{name}?requests=30000&seed=2"))) == pytest.approx(cv(trace), rel=0.15)


def deepseek_r1() -> Population:
    return read_servegen(TRACES, "deepseek_r1")


def hourly_totals(model: str) -> list[float]:
    """Requests per second of all clients."""
    totals: dict[int, list[float]] = {}
    with gzip.open(TRACES / f"servegen_{model}_rates.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["client"] == "-1":
                hour = int(float(row["window_start_s"]) // HOUR_S)
                totals.setdefault(hour, []).append(float(row["rate_rps"]))
    return [float(np.mean(totals[hour])) for hour in sorted(totals)]


def per_hour(population: Population, requests: int, seed: int) -> tuple[list[TraceRequest], np.ndarray]:
    """The whole span in so many requests, and how many came in each of its hours."""
    rate = requests / population.span_s
    drawn = list(ClientsWorkload(population, requests, requests_per_s=rate, seed=seed))
    hours = round(population.span_s / HOUR_S)
    counts, _ = np.histogram(lengths(drawn, "arrival_s"), bins=hours, range=(0, population.span_s))
    return drawn, counts


@AT_HAND
@pytest.mark.parametrize("read", [deepseek_r1, lambda: load_population("servegen-deepseek-r1")])
def test_a_day_of_deepseek_r1_has_the_published_shape_and_lengths(read: Callable[[], Population]) -> None:
    population = read()
    assert population.requests_per_s() == pytest.approx(np.mean(hourly_totals("deepseek_r1")), rel=0.02)
    drawn, counts = per_hour(population, 40_000, seed=1)
    published = np.array(hourly_totals("deepseek_r1")[: len(counts)])
    assert np.corrcoef(counts, published)[0, 1] > 0.97
    assert counts.max() / counts.mean() == pytest.approx(published.max() / published.mean(), rel=0.1)
    # Lower edges of bins in steps of 9%, from the table beside the files.
    assert np.quantile(lengths(drawn, "prompt_tokens"), (0.5, 0.9, 0.99)) == pytest.approx(
        (152, 2656, 23170), rel=0.15
    )
    assert np.quantile(lengths(drawn, "output_tokens"), (0.5, 0.9, 0.99)) == pytest.approx(
        (1024, 4096, 12634), rel=0.15
    )


@AT_HAND
def test_clients_are_as_bursty_as_their_fitted_laws() -> None:
    population = deepseek_r1()
    requests = list(ClientsWorkload(population, 60_000, seed=3))
    largest = max(population.clients, key=lambda client: client.windows[0].requests_per_s)
    window = largest.windows[0]
    arrivals = [
        r.arrival_s for r in requests if r.tenant == largest.name and r.arrival_s < largest.windows[1].start_s
    ]
    gaps = np.diff(arrivals)
    assert 1 / gaps.mean() == pytest.approx(window.requests_per_s, rel=0.1)
    assert gaps.std() / gaps.mean() == pytest.approx(window.shape**-0.5, rel=0.1)


@AT_HAND
def test_every_language_model_of_servegen_can_be_read() -> None:
    models = [model for model in servegen_models(TRACES) if model != "mm_image"]
    assert models == ["deepseek_r1", "m_large", "m_mid", "m_small"]
    assert read_servegen(TRACES, "m_small").requests_per_s() > 100


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_names_its_source_and_covers_its_span(name: str) -> None:
    population = load_population(name)
    assert population.name == name
    assert "ServeGen" in population.source
    assert population.requests_per_s() > 1
    for client in population.clients:
        starts = [window.start_s for window in client.windows]
        assert starts[0] == 0.0
        assert all(later - earlier == HOUR_S for earlier, later in pairwise([*starts, population.span_s]))
