"""Workloads by name."""

from pathlib import Path

import pytest

from pointsman.sim.workload.named import WorkloadNameError, open_workload
from pointsman.sim.workload.trace import TraceFile


def test_a_generator_is_described_by_its_name() -> None:
    requests = list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=3"))
    assert len(requests) == 3000
    assert 3000 / requests[-1].arrival_s == pytest.approx(12, rel=0.1)
    assert requests == list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=3"))
    assert requests != list(open_workload("gen:azure-conv?rate=12&requests=3000&seed=4"))


def test_anything_else_is_a_file() -> None:
    assert open_workload("some/trace.csv", 5) == TraceFile(Path("some/trace.csv"), 5)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gen:psychic", "unknown generator 'psychic'; there are azure-conv"),
        ("gen:azure-conv?speed=2", "'speed' is no parameter; there are rate, requests, seed, cv"),
        ("gen:azure-conv?rate=0", "rate=0: not a number above 0"),
        ("gen:azure-conv?requests=1.5", "requests=1.5: not a whole number"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, problem: str) -> None:
    with pytest.raises(WorkloadNameError, match=problem):
        open_workload(name)
