"""Plots of the experiments that repeat a paper's."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]


def splitwise(rows: list[Row]) -> Figure:
    """Bars of requests per second for one budget, a panel per budget and workload, with the spread over seeds."""
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    figure = Figure(figsize=(10, 0.6 + 3.1 * len(budgets)), layout="constrained")
    panels = figure.subplots(len(budgets), len(workloads), squeeze=False)
    for budget, of_budget in zip(budgets, panels, strict=True):
        for workload, axes in zip(workloads, of_budget, strict=True):
            shown = [row for row in rows if (row["budget"], row["workload"]) == (budget, workload)]
            _clusters(axes, shown)
            axes.set_title(f"{workload}, equal {budget}", fontsize=9)
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=3)
    figure.supylabel("requests/s within all nine limits", fontsize=9)
    return figure


def _clusters(axes: Axes, rows: list[Row]) -> None:
    kinds = {
        "prompts whole, decode as measured": ("fitted", False),
        "best chunk, decode as measured": ("fitted", True),
        "prompts whole, decode flat": ("flat decode", False),
    }
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for place, (label, kind) in enumerate(kinds.items()):
        shown = [row for row in rows if (row["cost_model"], row["tuned"]) == kind]
        if not shown:
            continue
        where = [systems.index(row["system"]) + 0.27 * (place - 1) for row in shown]
        axes.bar(where, [row["rate"] for row in shown], width=0.25, label=label, color=f"C{place}")
        axes.vlines(
            where,
            [min(row["rates"]) for row in shown],
            [max(row["rates"]) for row in shown],
            color="black",
            linewidth=1,
        )
    axes.set_xticks(range(len(systems)), systems, fontsize=8, rotation=15)


def distserve(rows: list[Row]) -> Figure:
    """Requests per second and GPU of each placement, with the spread over seeds."""
    rows = sorted((row for row in rows if row["variant"] == "ours"), key=lambda row: row["rate_per_gpu"])
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = "#4e79a7" if "decode" in row["placement"] else "#f28e2b"
        axes.barh(place, row["rate_per_gpu"], color=colour)
        axes.plot(
            [min(row["rate_per_gpu_runs"]), max(row["rate_per_gpu_runs"])], [place, place], color="black"
        )
    axes.axvline(1.56, linestyle="--", color="grey", label="DistServe's own simulator, its best placement")
    axes.set_yticks(range(len(rows)), [row["placement"] for row in rows], fontsize=8)
    axes.set_xlabel("requests/s and GPU within TTFT 0.2 s and TPOT 0.1 s, nine of ten each")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def ranking(rows: list[Row]) -> Figure:
    """Mean time per token by how well predictions rank, a line per arrival rate, with the spread over seeds."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for rate in dict.fromkeys(row["rate"] for row in rows):
        of_rate = [row for row in rows if row["rate"] == rate and row["bound_s"] is None]
        points = sorted((row["tau"], row["s_per_token"], row["s_per_token_runs"]) for row in of_rate)
        taus, means_s, runs = zip(*points, strict=True)
        means = [1000 * mean for mean in means_s]
        below = [mean - 1000 * min(values) for mean, values in zip(means, runs, strict=True)]
        above = [1000 * max(values) - mean for mean, values in zip(means, runs, strict=True)]
        label = f"{rate:g} requests/s" if rate else "burst of 2,000"
        axes.errorbar(taus, means, (below, above), fmt="o-", capsize=3, label=label)
    axes.set_xlabel("Kendall's tau of the predictions (0: first come, first served)")
    axes.set_ylabel("end-to-end ms per output token, mean over requests")
    axes.set_yscale("log")
    axes.set_yticks(ticks := (10, 20, 50, 100, 200, 300), [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8)
    return figure
