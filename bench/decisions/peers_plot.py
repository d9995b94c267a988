"""The peers beside each other, as a picture."""

from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pointsman.cli.comparison_plots import COLOURS

Row = dict[str, Any]


def peers(rows: list[Row]) -> Figure:
    """Medians over windows with the least and the most; a row a setting, fresh views left and stale ones right."""
    settings = list(dict.fromkeys((row["trace"], row["pools"]) for row in rows))
    delays = sorted({row["view_delay_s"] for row in rows})
    figure = Figure(figsize=(11, 2.9 * len(settings)), layout="constrained")
    panels = figure.subplots(len(settings), len(delays), squeeze=False, sharey="row")
    for setting, of_setting in zip(settings, panels, strict=True):
        for delay, axes in zip(delays, of_setting, strict=True):
            shown = [
                row for row in rows if (row["trace"], row["pools"], row["view_delay_s"]) == (*setting, delay)
            ]
            _attained_by_load(axes, shown)
            views = f"views {1000 * delay:g} ms old" if delay else "fresh views"
            trace, profile = (
                setting[0].removesuffix(".csv.gz").removeprefix("gen:"),
                setting[1].partition(":")[2],
            )
            axes.set_title(f"{trace} on 8 x {profile}, {views}", fontsize=8)
        of_setting[0].set_ylabel("% of requests within the SLO", fontsize=9)
        of_setting[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in panels[-1]:
        axes.set_xlabel("load, as a share of the capacity", fontsize=9)
    return figure


def _attained_by_load(axes: Axes, rows: list[Row]) -> None:
    policies = [policy for policy in dict.fromkeys(row["policy"] for row in rows) if ", " not in policy]
    for number, policy in enumerate(policies):
        of_policy = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row["load"])
        middles = [100 * median(row["attainment"]) for row in of_policy]
        below = [
            middle - 100 * min(row["attainment"]) for middle, row in zip(middles, of_policy, strict=True)
        ]
        above = [
            100 * max(row["attainment"]) - middle for middle, row in zip(middles, of_policy, strict=True)
        ]
        axes.errorbar(
            [row["load"] + 0.004 * (number - len(policies) / 2) for row in of_policy],  # side by side
            middles,
            (below, above),
            fmt="s--" if "prefill" in policy else "o-",
            color="black" if "prefill" in policy else COLOURS[number % len(COLOURS)],
            markersize=3.5,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=1.5,
            label=policy,
        )
    loads = sorted({row["load"] for row in rows})
    axes.set_xticks(loads, [f"{load:.0%}" for load in loads])
    axes.set_ylim(0, 103)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
