"""The experiments' plots, drawn from what they wrote."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decisions import agent_plots, paper_plots, peers_plot
from matplotlib.figure import Figure

from pointsman.cli.report_view import write_whole

IMAGES = Path("docs/images")
Row = dict[str, Any]


def draw_all() -> list[Path]:
    """Of the experiments whose results are there."""
    return [draw(name) for name in DRAWN if _results(name).exists()]


def draw(experiment: str) -> Path:
    """From what the experiment wrote."""
    figure = DRAWN[experiment](json.loads(_results(experiment).read_text()))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    path = IMAGES / f"decisions-{experiment}.png"
    write_whole(path, drawn.getvalue())
    return path


def _results(experiment: str) -> Path:
    return Path(f"bench/decisions/{experiment}.json")


DRAWN: dict[str, Callable[[list[Row]], Figure]] = {
    "splitwise": paper_plots.splitwise,
    "distserve": paper_plots.distserve,
    "ranking": paper_plots.ranking,
    "peers": peers_plot.peers,
    "agents": agent_plots.agents,
}
