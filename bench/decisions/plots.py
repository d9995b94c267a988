"""The experiments' plots, drawn from what they wrote."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decisions import paper_plots
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


def _peers(rows: list[Row]) -> Figure:
    clusters = list(dict.fromkeys((row["trace"], row["pools"]) for row in rows))
    figure = Figure(figsize=(9, 3.6 * len(clusters)), layout="constrained")
    panels = figure.subplots(len(clusters), 1, squeeze=False)[:, 0]
    for axes, (trace, pools) in zip(panels, clusters, strict=True):
        fresh = [
            row for row in rows if (row["trace"], row["pools"]) == (trace, pools) and not row["view_delay_s"]
        ]
        for policy in dict.fromkeys(row["policy"] for row in fresh):
            points = sorted(
                (row["load"], 100 * row["attainment"]) for row in fresh if row["policy"] == policy
            )
            axes.plot(*zip(*points, strict=True), "o--" if "prefill" in policy else "o-", label=policy)
        axes.set_title(f"{trace.removesuffix('.csv.gz')} on {pools}", fontsize=10)
        axes.set_xlabel("load, as a share of the capacity")
        axes.set_ylabel("% of requests within the SLO")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


DRAWN: dict[str, Callable[[list[Row]], Figure]] = {
    "splitwise": paper_plots.splitwise,
    "distserve": paper_plots.distserve,
    "ranking": paper_plots.ranking,
    "peers": _peers,
}
