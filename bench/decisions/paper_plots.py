"""Plots of the experiments that repeat a paper's."""

from typing import Any

from matplotlib.figure import Figure

Row = dict[str, Any]


def splitwise(rows: list[Row]) -> Figure:
    """Bars of requests per second at equal cost, a panel per workload."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    kinds = {
        "prompts whole, decode as measured": ("fitted", False),
        "best chunk, decode as measured": ("fitted", True),
        "prompts whole, decode flat": ("flat decode", False),
    }
    for axes, workload in zip(figure.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
        of_workload = [row for row in rows if row["workload"] == workload and row["budget"] == "cost"]
        systems = list(dict.fromkeys(row["system"] for row in of_workload))
        for place, (label, kind) in enumerate(kinds.items()):
            rates = {row["system"]: row for row in of_workload if (row["cost_model"], row["tuned"]) == kind}
            where = [systems.index(name) + 0.27 * (place - 1) for name in rates]
            axes.bar(where, [row["rate"] for row in rates.values()], width=0.25, label=label)
        axes.set_xticks(range(len(systems)), systems, fontsize=8, rotation=20)
        axes.set_title(workload)
    axes.legend(fontsize=8)
    figure.supylabel("requests/s within all nine limits")
    return figure


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
