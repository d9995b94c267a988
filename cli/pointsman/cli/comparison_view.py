"""A comparison as a table. Where a terminal is too narrow for all columns, the less telling ones are left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from pointsman.cli.comparison import Compared
from pointsman.cli.report_view import seconds, share

FILE_WIDTH = 150
"""Columns where the output is no terminal."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of each run."""

    name: str
    cell: Callable[[Compared], str]
    stays: int
    """The larger, the longer it stays as a terminal gets narrower."""


def _completed(one: Compared) -> str:
    report = one.report
    return str(report.completed) + ("" if report.completed == report.requests else f" of {report.requests}")


def _goodput(one: Compared) -> str:
    return "-" if one.report.goodput is None else f"{one.report.goodput:.2f}/s"


COLUMNS = (
    Column("load", lambda one: "-" if one.case.load is None else f"{one.case.load:.0%}", 8),
    Column("rate", lambda one: f"x{one.report.rate_scale:.4g}", 7),
    Column("policy", lambda one: one.case.plan.policy, 9),
    Column("completed", _completed, 2),
    Column("in SLO", lambda one: share(one.report.slo.attainment), 9),
    Column("goodput", _goodput, 6),
    Column("prefix hits", lambda one: share(one.report.prefix_hit_rate), 3),
    Column("TTFT mean", lambda one: seconds(one.report.ttft_s.mean), 4),
    Column("TTFT p90", lambda one: seconds(one.report.ttft_s.p90), 9),
    Column("TPOT mean", lambda one: seconds(one.report.tpot_s.mean), 1),
    Column("TPOT p90", lambda one: seconds(one.report.tpot_s.p90), 9),
    Column("E2E mean", lambda one: seconds(one.report.e2e_s.mean), 9),
    Column("E2E p90", lambda one: seconds(one.report.e2e_s.p90), 5),
)


def columns_of(compared: Sequence[Compared]) -> list[Column]:
    """Those that say something about these runs: no loads where no capacity is known, no hits where nothing is shared."""
    silent = set()
    if all(one.case.load is None for one in compared):
        silent.add("load")
    if not any(one.report.prefix_hit_rate for one in compared):
        silent.add("prefix hits")
    return [column for column in COLUMNS if column.name not in silent]


def cells(one: Compared, columns: Sequence[Column]) -> list[str]:
    return [column.cell(one) for column in columns]


def comparison_table(compared: Sequence[Compared], columns: Sequence[Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.name, justify="left" if column.name == "policy" else "right", no_wrap=True)
    last: object = None
    for one in compared:
        if last is not None and last != one.case.plan.rate_scale:
            table.add_section()
        last = one.case.plan.rate_scale
        table.add_row(*cells(one, columns))
    return table


def print_comparison(compared: Sequence[Compared], console: Console) -> None:
    """As many columns as fit."""
    columns = columns_of(compared)
    left_out = []
    while True:
        table = comparison_table(compared, columns)
        wanted = Measurement.get(console, console.options.update(max_width=1000), table).maximum
        most = max(column.stays for column in columns)
        least = min(columns, key=lambda column: column.stays)
        if wanted <= console.width or least.stays == most:
            break
        columns.remove(least)
        left_out.append(least.name)
    console.print(table)
    if left_out:
        console.print(f"left out, for it is {console.width} columns wide: {', '.join(left_out)}", style="dim")
