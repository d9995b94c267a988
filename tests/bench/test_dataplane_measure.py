"""Which runs of the data-plane bench count."""

from collections.abc import Iterator

import pytest

from dataplane.machine import Cores
from dataplane.measure import Bench, Run, used_runs


def run(foreign: float) -> Run:
    report = {"requests": 100, "events": 0, "errors": {"status": 0}}
    shares = {"router": foreign, "load": 0.0}
    return Run(
        "side", report, wall_s=1, router_cpu_s=0.5, load_cpu_s=0.1, foreign=shares, accepted=foreign < 0.05
    )


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("dataplane.measure.QUIET_S", 0)
    return Bench(Cores(router=1, load=0), rounds=2, retries=2, say=lambda _line: None)


@pytest.mark.parametrize(
    ("shares", "tried", "used"),
    [
        pytest.param([0.0], 1, 0.0, id="quiet at once"),
        pytest.param([0.5, 0.01], 2, 0.01, id="quiet the second time"),
        pytest.param(
            [0.5, 0.2, 0.3, 0.0], 3, 0.2, id="never quiet: the least disturbed, and no more attempts"
        ),
    ],
)
def test_a_disturbed_run_is_repeated(bench: Bench, shares: list[float], tried: int, used: float) -> None:
    attempts = iter(map(run, shares))
    runs = bench.quietly(lambda: next(attempts))
    assert len(runs) == tried
    assert runs[-1].foreign["router"] == used


def test_sides_take_turns(bench: Bench) -> None:
    order: list[str] = []

    def attempt(name: str) -> Run:
        order.append(name)
        return run(0.0)

    bench.interleave({"a": lambda: attempt("a"), "b": lambda: attempt("b")})
    assert order == ["a", "b", "a", "b"]


def test_disturbed_runs_fill_up_only_what_is_missing() -> None:
    def shares(runs: list[Run]) -> Iterator[float]:
        return (each.foreign["router"] for each in runs)

    quiet, little, much = run(0.0), run(0.1), run(0.9)
    assert list(shares(used_runs([much, little, quiet], rounds=1))) == [0.0]
    assert list(shares(used_runs([much, little, quiet], rounds=2))) == [0.0, 0.1]


def test_rates_are_per_cpu_second_of_the_router() -> None:
    assert run(0.0).per_cpu_s("requests") == 200
