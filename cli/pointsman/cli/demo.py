"""`pointsman demo`: a cluster of simulated engines behind the router, under load, watched."""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import click
import uvloop
from rich.console import Console
from rich.live import Live

from pointsman.api.config_file import ConfigError
from pointsman.cli.cluster import Cluster, ClusterError, ClusterOptions
from pointsman.cli.live import LiveView, RecentFigures
from pointsman.cli.options import profile_named
from pointsman.cli.processes import ProcessError
from pointsman.cli.report_view import print_report
from pointsman.cli.up import curl_line
from pointsman.loadgen.client import LoadOptions
from pointsman.loadgen.replay import Plan, Replay, Target
from pointsman.loadgen.wire import Dialect, Endpoint
from pointsman.sim.objective import ProfileObjective
from pointsman.sim.report import Report, RunFacts
from pointsman.sim.workload.generate import Generated
from pointsman.sim.workload.published import AZURE_CONVERSATION_2023
from pointsman.sim.workload.scale import RateScaled

SPEED = 5.0
RATE_SCALE = 0.85
"""5.0 requests/s: about 80% of the rate at which 2 prefill and 2 decode instances of the profile keep 90% of requests
within their SLO (docs/replaying-traces.md)."""
REQUESTS = 1700
REFRESHES_PER_S = 4
LINE_INTERVAL_S = 5.0
KEPT_MESSAGES = 3
INTERRUPTED_STATUS = 130


@click.command()
@click.option("--keep", is_flag=True, help="Keep serving after the report, until Ctrl-C.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=SPEED,
    show_default=True,
    help="Times real time.",
)
@click.option("--requests", type=click.IntRange(min=1), default=REQUESTS, show_default=True)
def command(*, keep: bool, speed: float, requests: int) -> None:
    """Watch 2 prefill and 2 decode simulated instances behind the router, under load.

    The load has the published statistics of a public conversation trace. It ends by itself, with the report.
    """
    console = Console()
    try:
        report = uvloop.run(demonstrate(console, ClusterOptions(speed=speed), requests, keep=keep))
    except asyncio.CancelledError:
        sys.exit(INTERRUPTED_STATUS)
    except (ClusterError, ProcessError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
    if report.interrupted:
        sys.exit(INTERRUPTED_STATUS)


async def demonstrate(console: Console, options: ClusterOptions, requests: int, *, keep: bool) -> Report:
    """Raises ClusterError, ProcessError, and CancelledError when it is interrupted while starting or keeping."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("runs in a task only")
    on_interrupt(loop, task.cancel)
    model = profile_named(options.profile).model
    messages: deque[str] = deque(maxlen=KEPT_MESSAGES)
    console.print(f"Starting {options.describe()} (simulated) and a router ...")
    async with Cluster(options, model, messages.append) as cluster:
        view = view_of(cluster, model, requests, messages)
        greet(console, cluster, model, requests)
        on_interrupt(loop, view.replay.stop)
        report = await play(console, cluster, view)
        on_interrupt(loop, task.cancel)
        print_report(report, console)
        if keep and not report.interrupted:
            console.print(f"\nStill serving at [bold]{cluster.url}/v1[/]; Ctrl-C ends it.")
            with suppress(asyncio.CancelledError):
                await cluster.ended()
    return report


def view_of(cluster: Cluster, model: str, requests: int, messages: deque[str]) -> LiveView:
    """The load, ready to be played, and what is shown of it."""
    options = cluster.options
    objective = ProfileObjective(profile_named(options.profile))
    workload = RateScaled(Generated(AZURE_CONVERSATION_2023, requests, options.seed), RATE_SCALE)
    facts = RunFacts(
        trace=f"generated {AZURE_CONVERSATION_2023.name}",
        seed=options.seed,
        pools=options.describe(),
        rate_scale=RATE_SCALE,
        speed=options.speed,
        slo_rule=objective.rule,
    )
    target = Target(
        Endpoint.from_url(cluster.url),
        Dialect(model),
        engines=tuple(Endpoint.from_url(engine.url) for engine in cluster.engines),
        instances=len(cluster.engines),
    )
    recent = RecentFigures()
    replay = Replay(target, Plan(workload, facts, objective, LoadOptions(options.speed)), recent.add)
    title = f"{options.describe()}, simulated, {options.speed:g}x real time"
    return LiveView(title, cluster.engines, replay, recent, messages)


def greet(console: Console, cluster: Cluster, model: str, requests: int) -> None:
    rate = RATE_SCALE * AZURE_CONVERSATION_2023.requests_per_s
    console.print(f"Ready at [bold blue]{cluster.url}/v1[/]. Try it meanwhile:\n", highlight=False)
    console.print(curl_line(cluster.url, model), soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"\nNow {requests} requests, {rate:.1f}/s by the engines' clock and {rate * cluster.options.speed:.0f}/s by yours: "
        f"about 80% load. Lengths and arrivals: {AZURE_CONVERSATION_2023.source}.\n",
        highlight=False,
    )


async def play(console: Console, cluster: Cluster, view: LiveView) -> Report:
    """Raises ClusterError when the cluster ends before the load does."""
    playing = asyncio.create_task(view.replay.run())
    ended = asyncio.create_task(cluster.ended())
    showing = asyncio.create_task(show(console, view))
    try:
        await asyncio.wait([playing, ended], return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            view.replay.stop()
            await playing
            await ended
        return await playing
    finally:
        for task in (showing, ended):
            task.cancel()
        await asyncio.gather(showing, ended, return_exceptions=True)


async def show(console: Console, view: LiveView) -> None:
    """Until cancelled."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_INTERVAL_S)
            console.print(view.line(), soft_wrap=True, highlight=False)
    with Live(view, console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.refresh()
            await asyncio.sleep(1 / REFRESHES_PER_S)


def on_interrupt(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, action)
