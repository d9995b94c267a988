"""The experiments' own arithmetic: parts of a trace, the search for a rate, Dynamo's books."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from decisions.capacity import highest_rate
from decisions.dynamo_agreement import Agreement, Books, summary
from decisions.parts import Window, parts, window_of, windows
from decisions.peers_table import spread
from decisions.settings import BASELINES, SETTINGS, Setting
from decisions.tuning import plan_of, tune, tune_split

from pointsman.cli.simulation import SimulationPlan
from pointsman.core.placement.catalogue import POLICIES


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("timestamp_s,prompt_tokens,output_tokens,hash_ids\n")
        file.writelines(f"{number * 2},{number + 1},3,7 {number}\n" for number in range(10))
    return path


def test_every_baseline_there_is_is_compared() -> None:
    assert set(BASELINES) == set(POLICIES)


def test_a_trace_is_tuned_on_its_first_part_and_measured_on_the_rest(trace: Path) -> None:
    training, measured = parts(trace)
    assert (len(training.rows), len(measured.rows)) == (4, 6)
    assert training.rate == measured.rate == 0.5
    assert [row.prompt_tokens for row in measured.rows] == ["5", "6", "7", "8", "9", "10"]


def test_a_window_is_copies_shifted_by_its_seed_that_share_nothing(trace: Path) -> None:
    _, measured = parts(trace)
    one, again, other = (window_of(measured, 10, 1.0, 0.0, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert [row.at_s for row in one] == sorted(row.at_s for row in one)
    assert {hash_id % 2 for row in one for hash_id in row.hash_ids} == {0, 1}, "two copies, ids apart"
    assert {row.hash_ids[0] for row in one} == {14, 15}, "each with the prefix that all of it shares"
    whole = window_of(measured, 12, 1.0, 0.0, 1)
    assert sorted(row.prompt_tokens for row in whole) == sorted(2 * ["5", "6", "7", "8", "9", "10"])
    assert all(0 <= row.at_s < 12 for row in whole)


def test_a_window_is_written_once_with_what_stands_for_sessions(trace: Path) -> None:
    setting = Setting("some", "h100-llama3.1-8b", 1.0, session_block=1, measured_requests=8)
    made = windows(setting, trace.parent, "measured", (1, 2))
    lines = made[1].path.read_text().splitlines()
    assert lines[0] == "timestamp_s,prompt_tokens,output_tokens,hash_ids,session_id"
    assert len(lines) == 9
    assert all(line.split(",")[4] == line.split(",")[3].split()[1] for line in lines[1:])
    assert made[1].rate == pytest.approx(1.0, rel=0.4)
    made[1].path.write_text(made[2].path.read_text())
    assert windows(setting, trace.parent, "measured", (1,))[1].rate == made[2].rate


class Holding:
    """A cluster that attains what is wanted up to a rate."""

    def __init__(self, window: Window, up_to: float) -> None:
        self.window = window
        self.up_to = up_to
        self.asked = 0

    def one(self, plan: SimulationPlan) -> dict[str, Any]:
        self.asked += 1
        return {"slo": {"attainment": 0.95 if plan.rate_scale * self.window.rate <= self.up_to else 0.5}}


WINDOW = Window(Path("some.csv"), 2.0)
PLAN = plan_of(SETTINGS[0], WINDOW, "least_tokens", 2048, 5.0, 1)


@pytest.mark.parametrize("up_to", [0.3, 5.0, 7.0, 90.0])
def test_the_rate_is_found_within_a_few_per_cent_from_either_side(up_to: float) -> None:
    runs = Holding(WINDOW, up_to)
    found = highest_rate(PLAN, WINDOW, 5.0, runs)  # type: ignore[arg-type]
    assert up_to * 0.98 < found <= up_to * (1 + 1e-9)
    assert runs.asked < 20


def test_limits_that_no_rate_meets_end_the_search() -> None:
    with pytest.raises(ValueError, match="no rate keeps 90% within the SLO"):
        highest_rate(PLAN, WINDOW, 5.0, Holding(WINDOW, 0.0))  # type: ignore[arg-type]


class Scoring:
    """A cluster on which plans do as well as a function says."""

    def __init__(self, attained: Callable[[SimulationPlan], float]) -> None:
        self.attained = attained

    def all(self, plans: list[SimulationPlan]) -> list[dict[str, Any]]:
        return [{"slo": {"attainment": self.attained(plan)}, "e2e_s": {"mean": plan.chunk}} for plan in plans]


def test_each_baseline_is_tuned_by_chunk_and_then_by_its_own_knobs() -> None:
    def attained(plan: SimulationPlan) -> float:
        return 0.5 + 0.1 * (plan.chunk == 1024) + 0.2 * ("temperature" in plan.policy)

    tuned = tune(SETTINGS[0], WINDOW, 5.0, Scoring(attained))  # type: ignore[arg-type]
    assert set(tuned) == set(BASELINES) - {"session"}, "this trace names no sessions"
    assert {one.chunk for one in tuned.values()} == {1024}
    assert (tuned["kv_cost"].policy, tuned["kv_cost"].tried) == ("kv_cost:temperature=0.1", 9)
    assert (tuned["random"].policy, tuned["random"].tried) == ("random", 3)


def test_among_equals_the_shortest_answers_win() -> None:
    tuned = tune(SETTINGS[0], WINDOW, 5.0, Scoring(lambda _: 1.0))  # type: ignore[arg-type]
    assert tuned["least_tokens"].chunk == 512


def test_the_best_split_is_found_before_what_runs_on_it() -> None:
    def attained(plan: SimulationPlan) -> float:
        return 0.5 * plan.pools.startswith("5xprefill") + 0.1 * (plan.policy == "kv_cost")

    split = tune_split(SETTINGS[0], WINDOW, 5.0, Scoring(attained))  # type: ignore[arg-type]
    assert split.pools == "5xprefill:h100-llama3.1-8b,3xdecode:h100-llama3.1-8b"
    assert (split.policy, split.tried) == ("kv_cost", 7 + 8)


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert spread([0.9, 0.7, 0.8], lambda share: f"{share:.0%}") == "80% (70% to 90%)"
    assert spread([0.9, 0.9], lambda share: f"{share:.0%}") == "90%"


def test_books_count_shared_blocks_once_and_cached_tokens_not_at_all() -> None:
    book = Books(pending={"a": 64 * 3})
    book.blocks.update([(1, 0), (1, 1), (1, 1)])
    blocks = [(1, 0), (1, 1), (2, 0), (2, 1)]
    # 3 pending blocks, 4 of its own less 2 cached; 2 held and 2 new ones
    assert book.cost(64 * 4, 2, blocks) == (3 + 4 - 2) + 2 + 2


def test_replays_that_differ_are_told_by_their_median_and_each() -> None:
    replays = [Agreement(100, 4.704, equal, own) for equal, own in ((0.97, 1.0), (0.99, 0.9), (0.98, 0.95))]
    row = summary("some.csv.gz", 4.0, replays)
    assert (row["equal"], row["equal_on_its_own_books"], row["running_per_worker"]) == (0.98, 0.95, 4.7)
    assert row["equal_runs"] == [0.97, 0.99, 0.98]
