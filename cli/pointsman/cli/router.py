"""`pointsman router`: the router in front of engines that are there already."""

import asyncio
import logging
import sys
from pathlib import Path

import click

from pointsman.api.config_file import ConfigError
from pointsman.api.router_config import RouterConfig, load_router_config


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
            click.echo(f"{file}: {_count(len(config.models), 'model')}, {_count(instances, 'instance')}")
            return
        _serve(config, file)
    except ConfigError as error:
        click.echo(error, err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"the router cannot start: {error}", err=True)
        sys.exit(1)


def _serve(config: RouterConfig, file: Path) -> None:
    import uvloop

    from pointsman.router.app import RouterApp

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(RouterApp(config, file).run())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
