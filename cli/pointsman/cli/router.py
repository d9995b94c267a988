"""`pointsman router`: the router in front of engines that are there already."""

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pointsman.api.config_file import ConfigError
from pointsman.api.router_config import KubernetesConfig, RouterConfig, load_router_config
from pointsman.kube.errors import AccessError

if TYPE_CHECKING:
    from pointsman.router.discovery.watch import Discovery


@click.command(name="router")
@click.option(
    "--config",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="YAML file; docs/configuration.md describes it.",
)
@click.option("--check", is_flag=True, help="Only say whether the file is right.")
def command(file: Path, *, check: bool) -> None:
    """Route OpenAI requests to the instances of a configuration file.

    The file is read again when it changes, and on SIGHUP. SIGTERM lets answers under way end.

    Exit codes: 0 after SIGTERM or SIGINT, and for a right file with --check; 1 when a port or a file cannot be
    opened; 2 for a wrong command line or configuration.
    """
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        config = load_router_config(file)
        if check:
            instances = sum(len(model.instances) for model in config.models)
            found = "" if config.kubernetes is None else ", and what the cluster has"
            click.echo(
                f"{file}: {_count(len(config.models), 'model')}, {_count(instances, 'instance')}{found}"
            )
            return
        _serve(config, file)
    except ConfigError as error:
        click.echo(error, err=True)
        sys.exit(2)
    except (OSError, AccessError) as error:
        click.echo(f"the router cannot start: {error}", err=True)
        sys.exit(1)


def _serve(config: RouterConfig, file: Path) -> None:
    import uvloop

    from pointsman.router.app import RouterApp

    async def serve() -> None:
        discovery = None if config.kubernetes is None else _discovery(config.kubernetes)
        await RouterApp(config, file, discovery=discovery).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _discovery(kubernetes: KubernetesConfig) -> "Discovery":
    from pointsman.router.discovery.watch import discovery_of

    return discovery_of(kubernetes, time.monotonic)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
