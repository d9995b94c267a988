"""Options that several subcommands take, and how their values are read."""

import os
from pathlib import Path

import click

from pointsman.core.slo import Slo
from pointsman.sim.objective import DEFAULT_OBJECTIVE, FixedObjective, Objective, parse_slo


def read_slo(ctx: click.Context, param: click.Parameter, value: str | None) -> Slo | None:
    """Callback of `--slo`. Raises click.BadParameter."""
    if value is None:
        return None
    try:
        return parse_slo(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def objective_from(slo: Slo | None) -> Objective:
    """`--slo` where given, else the default without a profile."""
    return FixedObjective(slo) if slo is not None else DEFAULT_OBJECTIVE


def read_api_key(file: Path | None, variable: str) -> str | None:
    """From a file where one is named, else from an environment variable. Raises click.BadParameter."""
    if file is None:
        return os.environ.get(variable) or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="--api-key-file") from error
    if not key:
        raise click.BadParameter(f"{file} is empty", param_hint="--api-key-file")
    return key
