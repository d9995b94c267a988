"""`pointsman compare`: policies side by side on one simulated cluster, against load."""

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pointsman.cli.comparison import (
    CapacityError,
    Case,
    Compared,
    Runner,
    capacity_of,
    default_jobs,
    split_policies,
)
from pointsman.cli.comparison_plots import write_plots
from pointsman.cli.comparison_view import FILE_WIDTH, print_comparison
from pointsman.cli.report_view import write_json
from pointsman.cli.simulation import SimulationPlan
from pointsman.cli.simulation_options import FilePath, shared_options
from pointsman.sim.workload.request import count_requests, measure_extent
from pointsman.sim.workload.trace import TraceError

INTERRUPTED_STATUS = 130
DEFAULT_PLOT = Path("pointsman-compare")
NEWS_INTERVAL_S = 0.2


def read_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Numbers above 0, separated by commas. Raises click.BadParameter."""
    numbers = []
    for part in (value or "").split(","):
        if not part.strip() and value is None:
            continue
        try:
            number = float(part)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise click.BadParameter(f"{part.strip()!r} is not a number above 0")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


@click.command()
@click.argument("trace")
@shared_options(without=("policy", "rate_scale"))
@click.option(
    "--policies",
    required=True,
    metavar="NAME,NAME|all",
    help="Placement policies, as `simulate --policy` takes them.",
)
@click.option(
    "--rate-scales", callback=read_numbers, metavar="X,Y", help="Multiples of the trace's request rate."
)
@click.option(
    "--loads", callback=read_numbers, metavar="X,Y", help="Shares of the capacity, as in .7,.9,1.05."
)
@click.option(
    "--capacity",
    metavar="FILE|RATE",
    help="Requests/s that count as load 1, or a file that knows them.  [default: bench/decisions/capacity.json]",
)
@click.option("--json", "json_file", type=FilePath(), help="Write the reports as one JSON list.")
@click.option(
    "--plot",
    type=FilePath(),
    help="Draw to FILE.png and FILE.html.  [default: beside --json, else pointsman-compare]",
)
@click.option("--no-plot", is_flag=True, help="Draw nothing.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=default_jobs,
    show_default="one a core",
    help="Simulations at once.",
)
def command(
    policies: str,
    rate_scales: Sequence[float],
    loads: Sequence[float],
    capacity: str | None,
    json_file: Path | None,
    plot: Path | None,
    no_plot: bool,  # noqa: FBT001 - click passes options so
    jobs: int,
    **given: Any,
) -> None:
    """Play TRACE on a simulated cluster under each policy at each load, and compare."""
    if rate_scales and loads:
        raise click.UsageError("--rate-scales and --loads both say how much load there is: give one")
    if no_plot and plot:
        raise click.UsageError("--plot and --no-plot contradict each other")
    names = split_policies(policies)
    plan = SimulationPlan(**given, policy=names[0])
    try:
        cases = make_cases(plan, names, rate_scales or (() if loads else (1.0,)), loads, capacity)
        compared = run_cases(cases, min(jobs, len(cases)))
    except TraceError as error:
        raise click.ClickException(str(error)) from error
    except CapacityError as error:
        raise click.BadParameter(str(error), param_hint="--capacity") from error
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was written", err=True)
        sys.exit(INTERRUPTED_STATUS)
    print_comparison(compared, Console(width=None if sys.stdout.isatty() else FILE_WIDTH))
    click.echo(f"SLO: {compared[0].report.slo.rule}")
    for warning in unequal(compared):
        click.echo(f"! {warning}")
    for one in compared:
        for explanation in one.explanations:
            click.echo(f"{one.case.plan.policy} at x{one.case.plan.rate_scale:.4g}: {explanation}")
    try:
        if json_file is not None:
            write_json(json_file, [one.as_json() for one in compared])
        if not no_plot:
            base = plot or (json_file.with_suffix("") if json_file else DEFAULT_PLOT)
            _draw(base.with_suffix("") if base.suffix in {".png", ".html"} else base, compared)
    except OSError as error:
        raise click.FileError(str(error.filename), error.strerror) from error


def make_cases(
    plan: SimulationPlan,
    policies: Sequence[str],
    rate_scales: Sequence[float],
    loads: Sequence[float],
    capacity: str | None,
) -> list[Case]:
    """Every policy at every load. Raises click.BadParameter, TraceError and CapacityError."""
    for policy in policies:
        replace(plan, policy=policy).check()
    extent = measure_extent(replace(plan, rate_scale=1.0, max_requests=None).workload())
    trace_rate = extent.requests / extent.period_s if extent.period_s > 0 else 0.0
    known: float | None
    try:
        known = capacity_of(capacity, plan.trace, plan.pools)
    except CapacityError:
        if loads or capacity is not None:
            raise
        known = None
    if loads and not trace_rate:
        raise click.BadParameter(
            "the trace has no rate: all its requests arrive at once", param_hint="--loads"
        )
    points: list[tuple[float, float | None]]
    if loads and known:
        points = [(load * known / trace_rate, load) for load in loads]
    else:
        points = [(scale, scale * trace_rate / known if known else None) for scale in rate_scales]
    for scale, _ in points:
        replace(plan, rate_scale=scale).check()
    return [
        Case(replace(plan, policy=policy, rate_scale=scale), load)
        for scale, load in points
        for policy in policies
    ]


def run_cases(cases: Sequence[Case], jobs: int) -> list[Compared]:
    """All of them with their reports, in the order of the cases. Raises KeyboardInterrupt, also when told to end."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    found: dict[int, Compared] = {}
    done = threading.Event()
    try:
        with Runner(jobs) as runner, _bar() as bar:
            task = bar.add_task("", total=None, ended=0, cases=len(cases))
            watcher = threading.Thread(target=_watch, args=(runner, bar, task, done), daemon=True)
            if not bar.disable:
                bar.update(task, total=requests_in(cases))
                watcher.start()
            for number, one in runner.run(cases):
                found[number] = one
                bar.update(task, ended=len(found))
            done.set()
            if watcher.is_alive():
                watcher.join()
    finally:
        done.set()
        signal.signal(signal.SIGTERM, previous)
    return [found[number] for number in range(len(cases))]


def requests_in(cases: Sequence[Case]) -> int:
    """Of all cases together. Raises TraceError."""
    of_scale = {
        scale: count_requests(plan.workload())
        for scale, plan in {case.plan.rate_scale: case.plan for case in cases}.items()
    }
    return sum(of_scale[case.plan.rate_scale] for case in cases)


def _watch(runner: Runner, bar: Progress, task: Any, done: threading.Event) -> None:
    while not done.wait(NEWS_INTERVAL_S):
        bar.advance(task, runner.ended())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def unequal(compared: Sequence[Compared]) -> list[str]:
    """Comparisons count only with equal numbers of completed requests."""
    warnings = []
    for scale in dict.fromkeys(one.case.plan.rate_scale for one in compared):
        completed = {one.report.completed for one in compared if one.case.plan.rate_scale == scale}
        if len(completed) > 1:
            least, most = min(completed), max(completed)
            warnings.append(
                f"at rate x{scale:g} policies completed between {least} and {most} requests: "
                "their latencies are those of different requests"
            )
    return warnings


def _draw(base: Path, compared: Sequence[Compared]) -> None:
    try:
        written = write_plots(base, compared)
    except ImportError:
        click.echo("no plots: they need matplotlib, as in `pip install pointsman[plots]`", err=True)
        return
    click.echo(f"plots: {', '.join(map(str, written))}")


def _bar() -> Progress:
    """On a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.fields[ended]} of {task.fields[cases]} simulations"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed} requests"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
