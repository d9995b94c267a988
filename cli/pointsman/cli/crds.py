"""`pointsman crds`: the CustomResourceDefinitions, for `kubectl apply`."""

import sys

import click

from pointsman.api.crd.definitions import definitions, to_yaml


@click.command()
def command() -> None:
    """Print Pointsman's CustomResourceDefinitions.

    They belong into the cluster before anything else:  pointsman crds | kubectl apply --server-side -f -
    """
    sys.stdout.write(to_yaml(definitions()))
