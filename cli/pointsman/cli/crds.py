"""`pointsman crds`: the CustomResourceDefinitions, for `kubectl apply`."""

import sys

import click

from pointsman.api.crd.definitions import definitions, shipped_engine_profiles, to_yaml


@click.command()
@click.option(
    "--profiles", is_flag=True, help="Print the shipped engine profiles, as EngineProfiles, instead."
)
def command(*, profiles: bool) -> None:
    """Print Pointsman's CustomResourceDefinitions.

    They belong into the cluster before anything else:  pointsman crds | kubectl apply --server-side -f -
    """
    sys.stdout.write(to_yaml(shipped_engine_profiles() if profiles else definitions()))
