"""Merged workloads: tenants, rates and priorities of their own, and nothing shared."""

from pathlib import Path

import pytest

from pointsman.sim.workload.named import WorkloadNameError, open_workload
from pointsman.sim.workload.request import TraceRequest, count_requests
from pointsman.sim.workload.scale import RateScaled

TRACE = "timestamp_s,prompt_tokens,output_tokens,hash_ids,session_id,tenant,priority\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    chat, batch = tmp_path / "chat.csv", tmp_path / "batch.csv"
    chat.write_text(TRACE + "5,600,1,0 1,s,old,3\n9,600,2,0 2,s,,\n")
    batch.write_text(TRACE + "0,600,3,0 1,,,\n3,600,4,0 1,,,7\n")
    return chat, batch


def opened(text: str) -> list[TraceRequest]:
    return list(open_workload(text))


def test_parts_begin_together_and_are_tenants(files: tuple[Path, Path]) -> None:
    chat, batch = files
    merged = opened(f"merge:chat={chat};batch={batch}")
    assert [(r.arrival_s, r.tenant, r.output_tokens) for r in merged] == [
        (0.0, "chat", 1),
        (0.0, "batch", 3),
        (3.0, "batch", 4),
        (4.0, "chat", 2),
    ]
    assert [r.priority for r in merged] == [3, 0, 7, 0]
    assert [r.session_id for r in merged] == ["0/s", "", "", "0/s"]
    blocks = {
        tenant: {b for r in merged if r.tenant == tenant for b in r.hash_ids} for tenant in ("chat", "batch")
    }
    assert not blocks["chat"] & blocks["batch"]
    assert merged[1].hash_ids == merged[2].hash_ids  # within a part they stay shared
    assert count_requests(open_workload(f"merge:chat={chat};batch={batch}")) == 4


def test_each_part_has_its_rate_and_priority(files: tuple[Path, Path]) -> None:
    chat, batch = files
    merged = opened(f"merge:chat[scale=2,priority=5]={chat};batch[priority=-1]={batch}")
    assert [(r.arrival_s, r.tenant, r.priority) for r in merged] == [
        (0.0, "chat", 5),
        (0.0, "batch", -1),
        (2.0, "chat", 5),
        (3.0, "batch", -1),
    ]


def test_generators_and_programs_are_merged_and_scaled_as_one() -> None:
    name = "merge:chat=gen:azure-conv?requests=50&rate=2;agents[priority=1]=gen:agents-bfcl?programs=5&rate=1"
    workload = open_workload(name)
    scaled = list(RateScaled(workload, 6, seed=1))
    assert {r.tenant for r in scaled} == {"chat", "agents"}
    assert count_requests(RateScaled(workload, 6)) == 2 * count_requests(workload)
    assert sum(r.calls for r in scaled) == 2 * count_requests(workload)
    ids = {r.program_id for r in scaled if r.program is not None}
    assert ids == {f"{copy}/1/agents-bfcl-{n}" for copy in (0, 1) for n in range(5)}
    first = [{b for call in r.program.calls for b in call.hash_ids} for r in scaled if r.program is not None]
    assert sum(map(len, first)) == len(set.union(*first))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("merge:", r"part 1: '' is not TENANT\[scale=X,priority=N\]=SOURCE"),
        ("merge:a=gen:azure-conv;azure.csv", r"part 2: 'azure.csv' is not TENANT"),
        ("merge:a=merge:b=c", r"part 1: 'a=merge:b=c' is not TENANT"),
        ("merge:a[scale=0]=gen:azure-conv", r"part 1: scale=0: not a number above 0"),
        (
            "merge:a[priority=high]=gen:azure-conv",
            r"part 1: priority=high: not a whole number from -1000 to 1000",
        ),
        ("merge:a[speed=2]=gen:azure-conv", r"part 1: 'speed' is no option; there are scale, priority"),
        ("merge:a=gen:psychic", r"unknown generator 'psychic'"),
    ],
)
def test_what_is_wrong_with_a_part_is_said(name: str, problem: str) -> None:
    with pytest.raises(WorkloadNameError, match=problem):
        open_workload(name)
