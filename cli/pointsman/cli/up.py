"""`pointsman up`: a cluster of simulated engines behind a router on this machine, until it is told to end."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from pointsman.api.config_file import ConfigError
from pointsman.cli.cluster import DEFAULT_PROFILE, Cluster, ClusterError, ClusterOptions
from pointsman.cli.options import profile_named
from pointsman.cli.processes import ProcessError
from pointsman.cli.running import RunningCluster, announced

Count = click.IntRange(min=0)


@click.command()
@click.option(
    "--prefill", type=Count, help="Prefill instances.  [default: 2, or 0 where another count is given]"
)
@click.option(
    "--decode", type=Count, help="Decode instances.  [default: 2, or 0 where another count is given]"
)
@click.option("--mixed", type=Count, help="Instances that do both.  [default: 0]")
@click.option(
    "--profile", default=DEFAULT_PROFILE, show_default=True, metavar="NAME|FILE", help="Engine profile."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Times real time.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Of the router; 0: a free one.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The router's settings; instances and ports are filled in.",
)
@click.option(
    "--policy", metavar="NAME", help="How the router places requests.  [default: the configuration's]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the engines' tokens.")
@click.option("--restart", is_flag=True, help="Start engines that die anew, at their address.")
def command(prefill: int | None, decode: int | None, mixed: int | None, **given: Any) -> None:
    """Serve a model on simulated engines behind a router, on this machine, until Ctrl-C.

    Nothing is left running, however this ends.
    """
    options = ClusterOptions(*instance_counts(prefill, decode, mixed), **given)
    run_to_the_end(serve(options))


async def serve(options: ClusterOptions) -> None:
    model = profile_named(options.profile).model
    click.echo(f"starting {options.describe()} and a router ...", err=True)
    async with Cluster(options, model, warn) as cluster:
        engines = tuple(engine.url for engine in cluster.engines)
        with announced(cluster.url, RunningCluster(os.getpid(), engines, options.describe())):
            click.echo(welcome(cluster, model))
            await cluster.ended()


def warn(sentence: str) -> None:
    click.echo(sentence, err=True)


def welcome(cluster: Cluster, model: str) -> str:
    return f"""{cluster.options.describe()} (simulated), {cluster.options.speed:g}x real time, ready at
{cluster.url}/v1

{curl_line(cluster.url, model)}
pointsman replay TRACE --url {cluster.url} --speed {cluster.options.speed:g}

Ctrl-C ends it."""


def curl_line(url: str, model: str) -> str:
    body = (
        f'{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"Which way to Crewe?"}}]}}'
    )
    return f"curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


def instance_counts(prefill: int | None, decode: int | None, mixed: int | None) -> tuple[int, int, int]:
    """Counts not given are 0 once one is given, else 2 prefill and 2 decode. Raises click.UsageError."""
    if prefill is decode is mixed is None:
        return 2, 2, 0
    counts = prefill or 0, decode or 0, mixed or 0
    if counts[0] and not counts[1] + counts[2]:
        raise click.UsageError("prefill instances alone answer nothing: give --decode or --mixed too")
    if not sum(counts):
        raise click.UsageError("no instance at all: give --prefill and --decode, or --mixed")
    return counts


def run_to_the_end(main: Coroutine[Any, Any, None]) -> None:
    """Runs until done, or until SIGINT or SIGTERM cancels it, with its failures as errors for people."""

    async def cancellable() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        await main

    try:
        uvloop.run(cancellable())
    except asyncio.CancelledError:
        sys.exit(0)
    except (ClusterError, ProcessError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
