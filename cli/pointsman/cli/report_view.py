"""The report as people read it, and as files hold it."""

import os
import tempfile
from pathlib import Path

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pointsman.sim.report import Distribution, ProgramReport, Report

MOST_ERRORS_SHOWN = 5


def render_report(report: Report) -> RenderableType:
    parts: list[RenderableType] = [_facts(report), _latencies(report)]
    parts += [Text(f"! {mark}", style="bold yellow") for mark in report.marks]
    parts += _errors(report)
    return Group(*parts)


def print_report(report: Report, console: Console | None = None) -> None:
    (console or Console()).print(render_report(report))


def write_json(path: Path, value: object) -> None:
    """Whole or not at all. Raises OSError."""
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_whole(path, data)


def write_whole(path: Path, data: bytes) -> None:
    """Written beside its place and moved there. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def seconds(value: float | None) -> str:
    """Three significant digits in the unit that fits."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value * 1000 < 99.95 else f"{value * 1000:.0f} ms"
    return f"{value:.3g} s" if value < 99.95 else f"{value:.0f} s"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _facts(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    speed = (
        ""
        if report.speed is None
        else f", speed x{report.speed:g} (arrivals compressed, times multiplied back)"
    )
    grid.add_row("trace", f"{report.trace}, rate x{report.rate_scale:g}{speed}")
    for name, value in (("pools", report.pools), ("policy", report.policy), ("predictor", report.predictor)):
        if value is not None:
            grid.add_row(name, value)
    counts = f"{report.requests} measured: {report.completed} completed, {report.failed} failed, {report.rejected} rejected"
    grid.add_row("requests", counts + (f", {report.unfinished} unfinished" if report.unfinished else ""))
    grid.add_row("rate", f"{report.request_rate:.2f} completed/s over {seconds(report.duration_s)}")
    grid.add_row("SLO", report.slo.rule or "none given: --slo or --profile")
    if report.slo.attainment is not None:
        reached = f"[bold]{share(report.slo.attainment)}[/] of offered requests, goodput [bold]{report.goodput:.2f}[/] requests/s"
        grid.add_row("attainment", reached)
    if report.programs is not None:
        grid.add_row("programs", _programs(report.programs))
    grid.add_row("cluster", _cluster(report))
    grid.add_row("run", _run(report))
    return grid


def _programs(programs: ProgramReport) -> str:
    in_time = programs.deadline_attainment
    counts = f"{programs.programs} measured: {programs.completed} completed, {programs.failed} failed"
    return counts + ("" if in_time is None else f"; {share(in_time)} within their deadline")


def _cluster(report: Report) -> str:
    known = [
        ("prefix hits", share(report.prefix_hit_rate)) if report.prefix_hit_rate is not None else None,
        ("preemptions", str(report.preemptions)) if report.preemptions is not None else None,
        ("migrations", str(report.migrations)) if report.migrations is not None else None,
        ("instance seconds", f"{report.instance_seconds:.0f}")
        if report.instance_seconds is not None
        else None,
    ]
    return ", ".join(f"{name} {value}" for name, value in filter(None, known)) or "not asked"


def _run(report: Report) -> str:
    lags = [f"{seconds(report.wall_s)} wall time"]
    if report.client_lag_s is not None:
        lags.append(f"client lag p99 {seconds(report.client_lag_s)}")
    if report.engine_lag is not None:
        lags.append(f"engine lag {share(report.engine_lag)} of TTFT")
    return ", ".join(lags)


def _latencies(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    rows: tuple[tuple[str, Distribution], ...] = (
        ("TTFT", report.ttft_s),
        ("TPOT", report.tpot_s),
        ("ITL", report.itl_s),
        ("E2E", report.e2e_s),
        *([("program", report.programs.response_s)] if report.programs is not None else []),
    )
    for name, d in rows:
        table.add_row(name, *(seconds(value) for value in (d.mean, d.p50, d.p90, d.p99, d.max)))
    return table


def _errors(report: Report) -> list[RenderableType]:
    shown = list(report.errors.items())[:MOST_ERRORS_SHOWN]
    lines: list[RenderableType] = [Text(f"{count:6d} x {error}", style="red") for error, count in shown]
    more = len(report.errors) - len(shown)
    if more:
        lines.append(Text(f"       and {more} more kinds of error", style="red"))
    return lines
