"""Options that several subcommands take, and how their values are read."""

import os
from pathlib import Path

import click

from pointsman.api.profile import load_profile, shipped_profiles
from pointsman.core.perf import EngineProfile
from pointsman.core.slo import Slo
from pointsman.sim.objective import DEFAULT_OBJECTIVE, FixedObjective, Objective, ProfileObjective, parse_slo


def read_slo(ctx: click.Context, param: click.Parameter, value: str | None) -> Slo | None:
    """Callback of `--slo`. Raises click.BadParameter."""
    if value is None:
        return None
    try:
        return parse_slo(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def objective_for(slo: Slo | None, profile: str | None, model: str) -> Objective:
    """`--slo` where given; else the default for the profile, given or known by the model it serves; else the default
    without a profile. Raises click.BadParameter.
    """
    if slo is not None:
        return FixedObjective(slo)
    if profile is not None:
        return ProfileObjective(profile_named(profile))
    known = (load_profile(name) for name in shipped_profiles())
    return next((ProfileObjective(one) for one in known if one.model == model), DEFAULT_OBJECTIVE)


def profile_named(name: str) -> EngineProfile:
    """Raises click.BadParameter."""
    try:
        return load_profile(name)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--profile") from error


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
