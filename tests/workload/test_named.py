"""A workload is a file or is described by its name."""

from pathlib import Path

import pytest

from pointsman.sim.workload.named import GENERATORS, WorkloadNameError, open_workload
from pointsman.sim.workload.trace import TraceFile


def test_a_generator_is_described_by_its_name() -> None:
    requests = list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=3"))
    assert len(requests) == 3000
    assert 3000 / requests[-1].arrival_s == pytest.approx(12, rel=0.1)
    assert requests == list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=3"))
    assert requests != list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=4"))


def test_anything_else_is_a_file() -> None:
    assert open_workload("some/trace.csv", 5) == TraceFile(Path("some/trace.csv"), 5)


@pytest.mark.parametrize("name", sorted(set(GENERATORS) - {"servegen"}))
def test_every_generator_needs_no_parameter_and_gives_requests_in_order_from_0(name: str) -> None:
    count = "requests" if "requests" in GENERATORS[name].parameters else "programs"
    requests = list(open_workload(f"gen:{name}?{count}=200"))
    assert len(requests) == 200
    arrivals = [request.arrival_s for request in requests]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] == 0.0
    assert all(request.prompt_tokens > 0 and request.output_tokens > 0 for request in requests)
    assert all(len(request.hash_ids) <= -(-request.prompt_tokens // 512) for request in requests)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gen:psychic", "unknown generator 'psychic'; there are agents-bfcl, agents-lats"),
        (
            "gen:azure-conv?speed=2",
            "gen:azure-conv: 'speed' is no parameter; there are rate, requests, seed, cv",
        ),
        ("gen:azure-code?cv=2", "gen:azure-code: 'cv' is no parameter; there are rate, requests, seed"),
        ("gen:azure-conv?rate=0", "gen:azure-conv: rate=0: not a number above 0"),
        ("gen:azure-conv?rate=inf", "rate=inf: not a number above 0"),
        ("gen:azure-conv?rate", "rate has no value"),
        ("gen:azure-conv?rate=1&rate=2", "rate is given twice"),
        ("gen:azure-conv?requests=1.5", "requests=1.5: not a whole number from 1 to 100000000"),
        ("gen:azure-conv?seed=-1", "seed=-1: not a whole number from 0"),
        ("gen:servegen-m-large?start=x", "start=x: not a number of at least 0"),
        ("gen:servegen", "gen:servegen: folder must be given; parameters are folder, model, rate"),
        ("gen:servegen?folder=/nowhere&model=x", "no model 'x' in /nowhere"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, problem: str) -> None:
    with pytest.raises(WorkloadNameError, match=problem):
        open_workload(name)
