"""Entry point of the `pointsman` command. Each subcommand's module is imported when it is called."""

import importlib
from typing import NamedTuple

import click


class Subcommand(NamedTuple):
    """Where a subcommand is, and the line `pointsman --help` shows without importing it."""

    place: str
    """`module:attribute`"""
    summary: str


COMMANDS: dict[str, Subcommand] = {
    "demo": Subcommand("pointsman.cli.demo:command", "Watch a cluster of simulated engines under load."),
    "up": Subcommand("pointsman.cli.up:command", "Serve a model on simulated engines behind a router, here."),
    "engine": Subcommand("pointsman.cli.engine:command", "One simulated engine that answers as vLLM does."),
    "router": Subcommand("pointsman.cli.router:command", "Route OpenAI requests to running engines."),
    "profile": Subcommand(
        "pointsman.cli.profile:command", "Engine profiles: show, check, fit, estimate, measure."
    ),
    "controller": Subcommand(
        "pointsman.cli.controller:command", "Operate engine pools on Kubernetes: the operator."
    ),
    "replay": Subcommand(
        "pointsman.cli.replay:command", "Play a trace against any OpenAI endpoint and report."
    ),
    "simulate": Subcommand(
        "pointsman.cli.simulate:command", "Play a trace on a simulated cluster and report."
    ),
    "compare": Subcommand(
        "pointsman.cli.compare:command", "Simulate policies side by side against load, and plot."
    ),
    "crds": Subcommand(
        "pointsman.cli.crds:command", "Print the custom resource definitions for kubectl apply."
    ),
}
"""A command joins when it works."""


class LazyGroup(click.Group):
    """A group that lists its subcommands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[name].place} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pointsman")
def main() -> None:
    """Route and orchestrate LLM inference across prefill and decode pools."""
