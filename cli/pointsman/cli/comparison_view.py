"""A comparison as people read it: a table, and plots against load as PNG and as one HTML file that needs no other.

Matplotlib draws both from one figure; a rasterizer of our own would be the larger dependency.
"""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pointsman.cli.comparison import Compared
from pointsman.cli.report_view import seconds, share, write_whole
from pointsman.sim.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = Callable[[Report], float | None]
PANELS: tuple[tuple[str, str, bool, Value], ...] = (
    ("Goodput", "requests/s within the SLO", False, lambda report: report.goodput),
    ("End to end, mean", "seconds", True, lambda report: report.e2e_s.mean),
    ("Time to first token, 90th percentile", "seconds", True, lambda report: report.ttft_s.p90),
    ("Time per output token, 90th percentile", "seconds", True, lambda report: report.tpot_s.p90),
)
COLUMNS = (
    "load", "rate", "policy", "completed", "in SLO", "goodput", "TTFT mean", "p90", "TPOT mean", "p90", "E2E mean", "p90",
)  # fmt: skip
DASHES = ("-", "--", "-.", ":")
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f", "#edc948")


def offered_rate(report: Report) -> float:
    """Measured requests per second of the measured time in which they arrived and ended."""
    return report.requests / report.duration_s if report.duration_s > 0 else 0.0


def comparison_table(compared: Sequence[Compared]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "policy" else "right")
    last: object = None
    for one in compared:
        if last is not None and last != one.case.plan.rate_scale:
            table.add_section()
        last = one.case.plan.rate_scale
        table.add_row(*_cells(one))
    return table


def _cells(one: Compared) -> list[str]:
    report = one.report
    completed = str(report.completed) + (
        "" if report.completed == report.requests else f" of {report.requests}"
    )
    return [
        "-" if one.case.load is None else f"{one.case.load:.0%}",
        f"x{report.rate_scale:.4g}",
        one.case.plan.policy,
        completed,
        share(report.slo.attainment),
        "-" if report.goodput is None else f"{report.goodput:.2f}/s",
        seconds(report.ttft_s.mean),
        seconds(report.ttft_s.p90),
        seconds(report.tpot_s.mean),
        seconds(report.tpot_s.p90),
        seconds(report.e2e_s.mean),
        seconds(report.e2e_s.p90),
    ]


def draw(compared: Sequence[Compared]) -> "Figure":
    """Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(11, 7.4), layout="constrained")
    first = compared[0].report
    figure.suptitle(f"{first.trace} on {first.pools}", fontsize=12, fontweight="bold")
    by_load = all(one.case.load is not None for one in compared)
    policies = list(dict.fromkeys(one.case.plan.policy for one in compared))
    for axes, (title, unit, logarithmic, value) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for number, policy in enumerate(policies):
            points = [
                (_load(one, by_load=by_load), y)
                for one in compared
                if one.case.plan.policy == policy and (y := value(one.report)) is not None
            ]
            if points:
                points.sort()
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    DASHES[number // len(COLOURS) % len(DASHES)],
                    color=COLOURS[number % len(COLOURS)],
                    marker="o",
                    markersize=4,
                    linewidth=1.6,
                    label=policy,
                )
        if logarithmic and axes.lines:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel(unit, fontsize=9)
        axes.set_xlabel("share of capacity" if by_load else "times the trace's rate", fontsize=9)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False, fontsize=9
    )
    return figure


def _load(one: Compared, *, by_load: bool) -> float:
    return one.case.load if by_load and one.case.load is not None else one.report.rate_scale


def write_plots(base: Path, compared: Sequence[Compared]) -> list[Path]:
    """BASE.png and BASE.html, whole or not at all. Raises ImportError without matplotlib, and OSError."""
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
    head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(one)) + "</tr>"
        for one in compared
    )
    title = html.escape(f"{first.trace} on {first.pools}")
    rule = html.escape(first.slo.rule or "none")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px }}
th, td {{ text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e5e5e5; white-space: nowrap }}
th:nth-child(3), td:nth-child(3) {{ text-align: left }}
</style></head><body><h1>{title}</h1><p>SLO: {rule}. Seed {first.seed}.</p>
{svg}
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></body></html>
"""
