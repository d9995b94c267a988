"""The experiments' plots, drawn from what they wrote."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

IMAGES = Path("docs/images")
Row = dict[str, Any]


def draw_all() -> list[Path]:
    """Of the experiments whose results are there."""
    drawn = []
    for name, draw in (("ranking", _ranking), ("peers", _peers)):
        source = Path(f"bench/decisions/{name}.json")
        if source.exists():
            figure = draw(json.loads(source.read_text()))
            path = IMAGES / f"decisions-{name}.png"
            figure.savefig(path, dpi=100)
            drawn.append(path)
    return drawn


def _ranking(rows: list[Row]) -> Figure:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for rate in sorted({row["rate"] for row in rows}):
        of_rate = [row for row in rows if row["rate"] == rate]
        unbounded = [row for row in of_rate if "starvation_s=60" not in row["order"]]
        points = sorted((row["kendall_tau"], row["s_per_token"]) for row in unbounded)
        label = f"{rate:g} requests/s" if rate else "burst of 2,000"
        axes.plot(*zip(*points, strict=True), "o-", label=label)
    axes.set_xlabel("Kendall's tau of the predictions (0: first come, first served)")
    axes.set_ylabel("mean of end-to-end s per output token")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


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
