"""`pointsman simulate`: play a trace on a simulated cluster and report."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pointsman.cli.report_view import print_report, write_json
from pointsman.cli.simulation import SimulationPlan, run_plan
from pointsman.cli.simulation_options import FilePath, shared_options
from pointsman.sim.simulation.kernel import Simulation
from pointsman.sim.workload.trace import TraceError

INTERRUPTED_STATUS = 130


@click.command()
@click.argument("trace")
@shared_options()
@click.option("--json", "json_file", type=FilePath(), help="Write the report as one JSON object.")
def command(json_file: Path | None, **given: Any) -> None:
    r"""Play TRACE (CSV or JSONL, maybe gzipped) on a simulated cluster, in virtual time, and report.

    \b
    Columns: timestamp_s, prompt_tokens, output_tokens and, where known, hash_ids,
    session_id, program_id, tenant, priority.
    """
    plan = SimulationPlan(**given)
    plan.check()
    previous: dict[int, Any] = {}
    try:
        with _bar() as bar:
            task = bar.add_task("simulated", total=None)

            def on_start(simulation: Simulation, planned: int) -> None:
                bar.update(task, total=planned)

                # From now on there is something to report; before, whoever interrupts just ends.
                def stop(number: int, frame: FrameType | None) -> None:
                    simulation.stop()

                for number in (signal.SIGINT, signal.SIGTERM):
                    previous[number] = signal.signal(number, stop)

            ran = run_plan(plan, on_start, lambda ended: bar.update(task, completed=ended))
    except TraceError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted before it began", err=True)
        sys.exit(INTERRUPTED_STATUS)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    print_report(ran.report)
    for explanation in ran.result.explanations:
        click.echo(explanation)
    if ran.report.interrupted:
        if json_file is not None:
            click.echo(f"interrupted: {json_file} was not written", err=True)
        sys.exit(INTERRUPTED_STATUS)
    if json_file is not None:
        try:
            write_json(json_file, ran.report.as_json())
        except OSError as error:
            raise click.FileError(str(json_file), error.strerror) from error


def _bar() -> Progress:
    """On a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
