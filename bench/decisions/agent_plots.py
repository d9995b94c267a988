"""The plot of the experiment on agent programs."""

from typing import Any

from matplotlib.figure import Figure

Row = dict[str, Any]


def agents(rows: list[Row]) -> Figure:
    """Mean response times, a panel per kind of programs at its highest rate, with the spread over seeds."""
    kinds = list(dict.fromkeys(row["programs"] for row in rows))
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        rate = max(row["rate"] for row in rows if row["programs"] == kind)
        shown = [row for row in rows if row["programs"] == kind and row["rate"] == rate]
        for place, row in enumerate(shown):
            axes.bar(
                place, row["response_mean_s"], color="#f28e2b" if "early" in row["contestant"] else "#4e79a7"
            )
            axes.plot(
                [place, place],
                [row["response_mean_lowest_s"], row["response_mean_highest_s"]],
                color="black",
            )
        names = [row["contestant"] for row in shown]
        axes.set_xticks(range(len(shown)), names, fontsize=7, rotation=30, ha="right")
        axes.set_title(f"{kind}, {rate:g}/s", fontsize=9)
    figure.supylabel("mean response time of a program, s")
    return figure
