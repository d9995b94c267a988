"""A comparison as pictures: lines against load, or bars where there is one load, as PNG and as one HTML file that needs no other.

Matplotlib draws both from one figure; a rasterizer of our own would be the larger dependency.
"""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.cli.comparison import Compared
from pointsman.cli.comparison_view import cells, columns_of
from pointsman.cli.report_view import seconds, write_whole
from pointsman.sim.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Value = Callable[[Report], float | None]
Words = Callable[[float | None], str]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}/s"


PANELS: tuple[tuple[str, str, bool, Value, Words], ...] = (
    ("Goodput", "requests/s within the SLO", False, lambda report: report.goodput, _rate),
    ("End to end, mean", "seconds", True, lambda report: report.e2e_s.mean, seconds),
    ("Time to first token, 90th percentile", "seconds", True, lambda report: report.ttft_s.p90, seconds),
    ("Time per output token, 90th percentile", "seconds", True, lambda report: report.tpot_s.p90, seconds),
)
COLOURS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#ff9da7", "#555555",
)  # fmt: skip
MARKERS = "osD^vP"
DASHES = ("-", "--", "-.", ":")
BAR, BEST_BAR = "#b9cce0", "#4e79a7"


def draw(compared: Sequence[Compared]) -> "Figure":
    """Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    policies = list(dict.fromkeys(one.case.plan.policy for one in compared))
    single = len({one.case.plan.rate_scale for one in compared}) == 1
    height = 2.6 + 0.5 * len(policies) if single else 7.4
    figure = Figure(figsize=(11, height), layout="constrained")
    first = compared[0]
    title = f"{first.report.trace} on {first.report.pools}"
    if single:
        load = "" if first.case.load is None else f", {first.case.load:.0%} of capacity"
        title += f", rate x{first.report.rate_scale:.4g}{load}"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    panels = figure.subplots(2, 2, sharey="row" if single else "none").flat
    for axes, (name, unit, logarithmic, value, words) in zip(panels, PANELS, strict=True):
        axes.set_title(name, fontsize=10, loc="left")
        if single:
            _bars(axes, compared, unit, value, words)
        else:
            _lines(axes, compared, policies, unit, value, logarithmic=logarithmic)
        axes.grid(visible=True, axis="x" if single else "both", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if not single:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        columns = min(5, len(labels))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _bars(axes: "Axes", compared: Sequence[Compared], unit: str, value: Value, words: Words) -> None:
    """One load: a bar a policy, its value beside it, the best ones dark."""
    values = [value(one.report) for one in compared]
    shown = [words(number) for number in values]
    known = [number for number in values if number is not None]
    best = words((max if value is PANELS[0][3] else min)(known)) if known else ""
    places = range(len(compared))
    colours = [BEST_BAR if text == best else BAR for text in shown]
    bars = axes.barh(places, [number or 0.0 for number in values], color=colours, height=0.66)
    axes.bar_label(bars, shown, padding=3, fontsize=8)
    axes.set_yticks(places, [one.case.plan.policy for one in compared])
    axes.set_ylim(len(compared) - 0.4, -0.6)
    axes.set_xlim(right=1.14 * max([*known, 1e-9]))
    axes.set_xlabel(unit, fontsize=9)


def _lines(
    axes: "Axes",
    compared: Sequence[Compared],
    policies: Sequence[str],
    unit: str,
    value: Value,
    *,
    logarithmic: bool,
) -> None:
    """Several loads: a line a policy."""
    from matplotlib.ticker import LogLocator, NullFormatter

    by_load = all(one.case.load is not None for one in compared)
    for number, policy in enumerate(policies):
        points = sorted(
            (one.case.load if by_load and one.case.load is not None else one.report.rate_scale, y)
            for one in compared
            if one.case.plan.policy == policy and (y := value(one.report)) is not None
        )
        if points:
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                DASHES[number // len(COLOURS) % len(DASHES)],
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4.5,
                linewidth=1.5,
                label=policy,
            )
    if logarithmic and axes.lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(unit, fontsize=9)
    axes.set_xlabel("share of capacity" if by_load else "times the trace's rate", fontsize=9)


def write_plots(base: Path, compared: Sequence[Compared]) -> list[Path]:
    """BASE.png and BASE.html, each whole or not at all. Raises ImportError without matplotlib, and OSError."""
    figure = draw(compared)
    picture, vector = io.BytesIO(), io.StringIO()
    figure.savefig(picture, format="png", dpi=150)
    figure.savefig(vector, format="svg", metadata={"Date": None})
    svg = vector.getvalue()
    page = _page(compared, svg[svg.index("<svg") :])
    written = [base.with_name(base.name + ".png"), base.with_name(base.name + ".html")]
    for path, data in zip(written, (picture.getvalue(), page.encode()), strict=True):
        write_whole(path, data)
    return written


def _page(compared: Sequence[Compared], svg: str) -> str:
    first = compared[0].report
    columns = columns_of(compared)
    head = "".join(f"<th>{html.escape(column.name)}</th>" for column in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(one, columns)) + "</tr>\n"
        for one in compared
    )
    title = html.escape(f"{first.trace} on {first.pools}")
    rule = html.escape(first.slo.rule or "none")
    policy = [column.name for column in columns].index("policy") + 1
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.3rem }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px }}
th, td {{ text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e5e5e5; white-space: nowrap }}
th:nth-child({policy}), td:nth-child({policy}) {{ text-align: left }}
</style></head><body><h1>{title}</h1><p>SLO: {rule}. Seed {first.seed}. {first.requests} requests measured a run.</p>
{svg}
<table><thead><tr>{head}</tr></thead><tbody>
{rows}</tbody></table></body></html>
"""
