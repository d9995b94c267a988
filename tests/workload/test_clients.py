"""Clients' rates, laws and lengths, on populations small enough to reckon with."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.sim.workload.clients import (
    Client,
    ClientsWorkload,
    GapLaw,
    Histogram,
    Lengths,
    Population,
    Window,
)
from pointsman.sim.workload.servegen import read_servegen, servegen_models
from pointsman.sim.workload.trace_rows import TraceError

TEN = Histogram.of([(10, 11, 1.0)])
LENGTHS = (Lengths(0.0, TEN, Histogram.of([(1, 3, 0.5), (8, 9, 0.5)])),)


def population(*clients: Client, span_s: float = 100.0) -> Population:
    return Population("small", "made up", span_s, clients)


STEADY = Client("steady", (Window(0.0, 5.0),), LENGTHS)
MORNING = Client("morning", (Window(0.0, 40.0), Window(50.0, 0.0)), LENGTHS)


@pytest.mark.parametrize("law", GapLaw)
@pytest.mark.parametrize("shape", [0.3, 1.0, 3.0])
def test_gaps_have_the_rate_whatever_the_law(law: GapLaw, shape: float) -> None:
    client = Client("c", (Window(0.0, 20.0, law, shape),), LENGTHS)
    requests = list(ClientsWorkload(population(client), 20_000, seed=1))
    gaps = np.diff([request.arrival_s for request in requests])
    assert 1 / gaps.mean() == pytest.approx(20.0, rel=0.07)
    if law is GapLaw.GAMMA:
        assert gaps.std() / gaps.mean() == pytest.approx(shape**-0.5, rel=0.07)


def test_a_client_is_silent_where_its_rate_is_0_and_begins_again_after_the_span() -> None:
    arrivals = [request.arrival_s for request in ClientsWorkload(population(MORNING), 6000, seed=2)]
    in_span = np.mod(np.add(arrivals, 0.5), 100.0)  # they count from the first arrival
    assert (in_span < 51).all()
    assert arrivals[-1] > 200.0


@pytest.mark.parametrize(
    ("options", "mean_rate", "until_s"),
    [
        ({}, 25.0, 100.0),
        ({"requests_per_s": 2.5}, 2.5, 100.0),
        ({"span_s": 10.0}, 25.0, 10.0),
        ({"start_s": 50.0}, 25.0, 100.0),
    ],
)
def test_rates_are_scaled_and_days_squeezed(
    options: dict[str, float], mean_rate: float, until_s: float
) -> None:
    workload = ClientsWorkload(population(STEADY, MORNING), 50_000, seed=3, **options)
    arrivals = np.array([request.arrival_s for request in workload])
    days = arrivals[-1] // until_s
    counted = (arrivals < days * until_s).sum()
    assert counted / (days * until_s) == pytest.approx(mean_rate, rel=0.05)


def test_beginning_at_night_sees_the_night_first() -> None:
    late = list(ClientsWorkload(population(STEADY, MORNING), 200, start_s=50.0, seed=1))
    assert {request.tenant for request in late if request.arrival_s < 45} == {"steady"}


def test_clients_are_tenants_and_do_not_depend_on_each_other() -> None:
    both = list(ClientsWorkload(population(STEADY, MORNING), 500, seed=4))
    assert {request.tenant for request in both} == {"steady", "morning"}
    alone = list(ClientsWorkload(population(STEADY), 100, seed=4))
    steady = [request for request in both if request.tenant == "steady"]
    assert [r.output_tokens for r in alone[: len(steady)]] == [r.output_tokens for r in steady]


@given(
    edges=st.lists(st.integers(1, 500), min_size=2, max_size=12, unique=True),
    share=st.floats(0, 1, exclude_max=True),
)
def test_lengths_lie_in_bins_with_weight(edges: list[int], share: float) -> None:
    edges.sort()
    bins = [(low, high, float(n % 2)) for n, (low, high) in enumerate(pairwise(edges))]
    if not any(weight for *_, weight in bins):
        with pytest.raises(ValueError, match="weight above 0"):
            Histogram.of(bins)
        return
    length = Histogram.of(bins).length(share)
    assert any(low <= length < high for low, high, weight in bins if weight)


def test_a_histogram_with_holes_has_the_shares_and_the_mean() -> None:
    histogram = LENGTHS[0].output_tokens
    drawn = [histogram.length(share) for share in np.linspace(0, 1, 1000, endpoint=False)]
    assert {length: drawn.count(length) for length in set(drawn)} == {1: 250, 2: 250, 8: 500}
    assert histogram.mean == pytest.approx(np.mean(drawn))


RATES = "client,window_start_s,rate_rps,iat_cv,iat_family,param1,param2\n"
GOOD_RATES = RATES + "-1,0,3,,total_all_clients,,\n7,600,2,1.5,Gamma,0.5,1\n"
GOOD_LENGTHS = '{"client":7,"window_start_s":0,"input_tokens":{"8":1},"output_tokens":{"0":0.5,"1":0.5}}\n'


def servegen(folder: Path, rates: str, lengths: str) -> Path:
    (folder / "servegen_m_rates.csv.gz").write_bytes(gzip.compress(rates.encode()))
    (folder / "servegen_m_lengths.jsonl.gz").write_bytes(gzip.compress(lengths.encode()))
    return folder


def test_windows_that_are_left_out_are_silent(tmp_path: Path) -> None:
    folder = servegen(tmp_path, GOOD_RATES, GOOD_LENGTHS)
    assert servegen_models(folder) == ["m"]
    read = read_servegen(folder, "m")
    assert read.span_s == 1200.0
    assert read.clients[0].windows == (Window(0.0, 0.0), Window(600.0, 2.0, GapLaw.GAMMA, 0.5))
    assert {r.output_tokens for r in ClientsWorkload(read, 50)} == {1}


@pytest.mark.parametrize(
    ("rates", "lengths", "problem"),
    [
        ("client,rate_rps\n", GOOD_LENGTHS, r"rates.csv.gz, line 1, window_start_s: is not among the columns"),
        (GOOD_RATES + "7,1200,-1,1,Gamma,1,1\n", GOOD_LENGTHS, r"line 4, rate_rps: '-1' is not a number of at"),
        (GOOD_RATES + "7,1200,1,1,Pareto,1,1\n", GOOD_LENGTHS, r"line 4, iat_family: 'Pareto' is none of Gamma, W"),
        (GOOD_RATES + "7,600,1,1,Gamma,1,1\n", GOOD_LENGTHS, r"line 4, window_start_s: 600 comes before 1200"),
        (GOOD_RATES + "x,600,1,1,Gamma,1,1\n", GOOD_LENGTHS, r"line 4, client: 'x' is no client's number"),
        (GOOD_RATES + "7,1\n", GOOD_LENGTHS, r"line 4: has 2 fields where the header names 7"),
        (GOOD_RATES, "{\n", r"lengths.jsonl.gz, line 1: is not JSON"),
        (GOOD_RATES, GOOD_LENGTHS.replace('"8"', '"10000001"'), r"line 1, input_tokens: '10000001' is no lower edge"),
        (GOOD_RATES, GOOD_LENGTHS.replace('{"8":1}', "{}"), r"line 1, input_tokens: \{\} is not an object of bins"),
        (GOOD_RATES, GOOD_LENGTHS.replace("0.5", "2"), r"line 1, output_tokens: 2 is no probability"),
        (GOOD_RATES, GOOD_LENGTHS.replace(":7", ":8"), r"client: no client has lengths"),
    ],
)  # fmt: skip
def test_bad_statistics_are_refused_with_file_line_and_field(
    tmp_path: Path, rates: str, lengths: str, problem: str
) -> None:
    with pytest.raises(TraceError, match=problem):
        read_servegen(servegen(tmp_path, rates, lengths), "m")
