"""The live view says what is known, and no more."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pointsman.cli.live import LiveView, RecentFigures
from pointsman.core.instances import Role
from pointsman.core.slo import Slo
from pointsman.loadgen.engines import EngineState
from pointsman.sim.report import Outcome, RequestResult


def result(end_s: float, ttft_s: float = 0.5) -> RequestResult:
    arrival_s = end_s - 2.0
    return RequestResult(
        *(arrival_s, end_s, Outcome.COMPLETED, Slo(1.0, 2.0)),
        first_token_s=arrival_s + ttft_s,
        last_token_s=end_s,
        output_tokens=2,
    )


@pytest.fixture
def view() -> LiveView:
    states = [
        EngineState("http://e1", reachable=True, running=3, waiting=1, kv_used_share=0.5),
        EngineState("http://e2", reachable=True, running=7),
        EngineState("http://e3"),
    ]
    engines: Any = [
        SimpleNamespace(name=f"{role}-1", role=role) for role in (Role.PREFILL, Role.DECODE, Role.MIXED)
    ]
    client = SimpleNamespace(sent=30, in_flight=10, now_s=40.0)
    replay: Any = SimpleNamespace(requests=100, client=client, watch=SimpleNamespace(states=states))
    recent = RecentFigures()
    for end_s in (5.0, 20.0, 30.0):
        recent.add(result(end_s))
    recent.add(result(35.0, ttft_s=1.5))
    return LiveView("Title", engines, replay, recent, deque(["mixed-1 ended"]))


def shown(view: LiveView) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_instances_figures_progress_and_news_are_shown(view: LiveView) -> None:
    lines = {
        words[0]: words for words in (line.strip("│ ").split() for line in shown(view).splitlines()) if words
    }
    assert lines["prefill-1"][1:] == ["prefill", "3", "1", "████████", "50%"]
    assert lines["decode-1"][1:] == ["decode", "7", "-", "-"]
    assert lines["mixed-1"] == ["mixed-1", "ended"]
    assert "away" in shown(view)
    assert "66.7%" in shown(view)
    assert "20 of 100 requests" in shown(view)


def test_the_line_holds_the_same_figures(view: LiveView) -> None:
    assert view.line() == (
        "20 of 100 ended, running 10, waiting 1, TTFT p50 500 ms p90 1.3 s, TPOT p50 1.5 s p90 1.5 s, goodput 0.07/s"
    )


def test_what_is_long_past_is_forgotten(view: LiveView) -> None:
    view.line()
    assert [kept.end_s for kept in view.recent.results] == [20.0, 30.0, 35.0]


def test_nothing_yet_is_no_figure(view: LiveView) -> None:
    view.recent.results.clear()
    view.replay.client.now_s = 0.0  # type: ignore[misc]
    assert "TTFT p50 - p90 -" in view.line()
