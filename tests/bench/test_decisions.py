"""The experiments' own arithmetic: parts of a trace, the search for a rate, Dynamo's books."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from decisions.capacity import SETTINGS, highest_rate, plan_of
from decisions.dynamo_agreement import Books
from decisions.parts import Part, parts

from pointsman.cli.simulation import SimulationPlan


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("timestamp_s,prompt_tokens,output_tokens\n")
        file.writelines(f"{number * 2},{number + 1},3\n" for number in range(10))
    return path


def test_a_trace_is_tuned_on_its_first_part_and_measured_on_the_rest(trace: Path) -> None:
    training, measured = parts(trace)
    assert (training.requests, measured.requests) == (4, 6)
    assert training.rate == measured.rate == 0.5
    prompts = [line.split(",")[1] for line in measured.path.read_text().splitlines()[1:]]
    assert prompts == ["5", "6", "7", "8", "9", "10"]


class Holding:
    """A cluster that attains what is wanted up to a rate."""

    def __init__(self, part: Part, up_to: float) -> None:
        self.part = part
        self.up_to = up_to
        self.asked = 0

    def one(self, plan: SimulationPlan) -> dict[str, Any]:
        self.asked += 1
        return {"slo": {"attainment": 0.95 if plan.rate_scale * self.part.rate <= self.up_to else 0.5}}


@pytest.mark.parametrize("up_to", [0.3, 5.0, 7.0, 90.0])
def test_the_rate_is_found_within_a_few_per_cent_from_either_side(trace: Path, up_to: float) -> None:
    training, _ = parts(trace)
    runs = Holding(training, up_to)
    plan = plan_of(SETTINGS[0], training, "least_tokens", 2048, 5.0)
    found = highest_rate(plan, training, 5.0, runs)  # type: ignore[arg-type]
    assert found <= up_to * (1 + 1e-9)
    assert found > up_to * 0.97
    assert runs.asked < 14


def test_limits_that_no_rate_meets_end_the_search(trace: Path) -> None:
    training, _ = parts(trace)
    plan = plan_of(SETTINGS[0], training, "least_tokens", 2048, 5.0)
    with pytest.raises(ValueError, match="no rate keeps 90% within the SLO"):
        highest_rate(plan, training, 5.0, Holding(training, 0.0))  # type: ignore[arg-type]


def test_books_count_shared_blocks_once_and_cached_tokens_not_at_all() -> None:
    book = Books(pending={"a": 64 * 3})
    book.blocks.update([(1, 0), (1, 1), (1, 1)])
    blocks = [(1, 0), (1, 1), (2, 0), (2, 1)]
    # 3 pending blocks, 4 of its own less 2 cached; 2 held and 2 new ones
    assert book.cost(64 * 4, 2, blocks) == (3 + 4 - 2) + 2 + 2
