"""The plot of the experiment on agent programs."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]
COLOURS = {
    "first come": "#4e79a7",
    "least attained": "#59a14f",
    "least slack": "#e15759",
}


def agents(rows: list[Row]) -> Figure:
    """Mean response per generated token by rate, a panel per kind of programs, with the spread over seeds."""
    kinds = list(dict.fromkeys(row["programs"] for row in rows))
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots((len(kinds) + 1) // 2, 2, squeeze=False).flat
    for axes, kind in zip(panels, kinds, strict=False):
        _panel(axes, [row for row in rows if row["programs"] == kind])
        axes.set_title(kind, fontsize=9)
    figure.supylabel("response of a program per generated token, mean, ms")
    figure.supxlabel("programs per second")
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    for name in dict.fromkeys(row["contestant"] for row in rows):
        shown = sorted((row for row in rows if row["contestant"] == name), key=lambda row: row["rate"])
        means = [1000 * row["per_token_mean_s"] for row in shown]
        runs = [[1000 * value for value in row["per_token_mean_s_runs"]] for row in shown]
        binding, _, order = name.partition(", ")
        axes.errorbar(
            [row["rate"] for row in shown],
            means,
            (
                [mean - min(values) for mean, values in zip(means, runs, strict=True)],
                [max(values) - mean for mean, values in zip(means, runs, strict=True)],
            ),
            fmt={"early": "s-", "late 32": "o--"}.get(binding, "^:"),
            color="black" if binding == "early" else COLOURS[order],
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=7)
