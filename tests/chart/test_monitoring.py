"""Dashboards and alerts look at metrics that exist, under labels that they have."""

import json
import re
from pathlib import Path

import pytest

from tools import dashboards

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "charts" / "pointsman"
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RULES = CHART / "templates" / "monitoring" / "rules.yaml"
PROCESS_METRICS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
METRIC = re.compile(r"\b((?:pointsman|process)_\w+?)(?:_bucket)?\b(?=[{\[ ),])")


def documented() -> set[str]:
    """Metrics of docs/metrics.md, which another test holds against what routers export."""
    return set(re.findall(r"`(pointsman_\w+)`", (PROJECT / "docs" / "metrics.md").read_text()))


def queries(dashboard: Path) -> list[str]:
    shown = json.loads(dashboard.read_text())
    targets = [target["expr"] for panel in shown["panels"] for target in panel.get("targets", ())]
    return targets + [
        variable["definition"] for variable in shown["templating"]["list"] if "definition" in variable
    ]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_show_metrics_that_exist(dashboard: Path) -> None:
    named = {name for query in queries(dashboard) for name in METRIC.findall(query)}
    assert named - documented() - PROCESS_METRICS == set()
    assert len(named) > 10


def test_alerts_watch_metrics_that_exist() -> None:
    named = set(METRIC.findall(RULES.read_text()))
    assert len(named) > 5
    assert named - documented() == set()


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {
        name for dashboard in DASHBOARDS for query in queries(dashboard) for name in METRIC.findall(query)
    }
    assert documented() - shown == set()


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_the_dashboard_is_the_one_that_the_tool_writes(name: str) -> None:
    assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.rendered(name)


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboards.dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboards.WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
