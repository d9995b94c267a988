"""`pointsman controller`: the operator."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from random import Random
from typing import Any

import click

LEVELS = ("debug", "info", "warning", "error")


def _peers(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    peers = []
    for text in given:
        try:
            peer = json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is no JSON: {error}", param=option) from error
        if not isinstance(peer, dict):
            raise click.BadParameter(f"{text!r} is no JSON object", param=option)
        peers.append(peer)
    return tuple(peers)


@click.command(name="controller")
@click.option("--namespace", "namespaces", multiple=True, help="Watch this namespace; give it once for each.")
@click.option("--all-namespaces", is_flag=True, help="Watch every namespace.")
@click.option(
    "--lease-name", default="pointsman-operator", show_default=True, help="Lease by which replicas agree."
)
@click.option("--lease-namespace", help="Its namespace.  [default: the pod's, or the kubeconfig's]")
@click.option(
    "--lease-seconds",
    default=9,
    show_default=True,
    type=click.IntRange(min=3),
    help="How long a dead leader's Lease holds.",
)
@click.option(
    "--identity",
    help="This replica's name in the Lease.  [default: $POD_NAME or host name, and a random suffix]",
)
@click.option("--router-namespace", help="Where the routers run.  [default: that of the Lease]")
@click.option(
    "--router-selector",
    default="app.kubernetes.io/component=router",
    show_default=True,
    help="Labels of router pods.",
)
@click.option(
    "--own-image",
    envvar="POINTSMAN_IMAGE",
    default="",
    help="Image of simulated engines that name none.  [env: POINTSMAN_IMAGE]",
)
@click.option(
    "--own-pull-secret",
    "own_pull_secrets",
    multiple=True,
    help="Secret with which engines pull it, in their own namespace; give it once for each.",
)
@click.option(
    "--engine-peer",
    "engine_peers",
    multiple=True,
    callback=_peers,
    help="Who may reach engines, beside engines: a NetworkPolicyPeer as JSON, once for each. Without any, the operator"
    " writes no network policies.",
)
@click.option("--host", default="0.0.0.0", show_default=True, help="Address of /health, /ready and /metrics.")
@click.option("--port", default=8081, show_default=True, type=click.IntRange(0, 65535), help="Their port.")
@click.option(
    "--workers", default=8, show_default=True, type=click.IntRange(1, 256), help="Objects reconciled at once."
)
@click.option(
    "--resync",
    "resync_s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds after which everything is reconciled again.",
)
@click.option(
    "--relist",
    "relist_s",
    default=300.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds after which everything is listed again.",
)
@click.option("--context", help="Context of the kubeconfig, outside of a cluster.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LEVELS))
def command(
    namespaces: tuple[str, ...],
    lease_name: str,
    lease_namespace: str | None,
    lease_seconds: int,
    identity: str | None,
    router_namespace: str | None,
    router_selector: str,
    own_image: str,
    own_pull_secrets: tuple[str, ...],
    engine_peers: tuple[dict[str, Any], ...],
    host: str,
    port: int,
    workers: int,
    resync_s: float,
    relist_s: float,
    context: str | None,
    log_level: str,
    *,
    all_namespaces: bool,
) -> None:
    """Run the operator: make what ModelServices and InstancePools say come true, and keep it so.

    In a pod it uses its service account, elsewhere KUBECONFIG. Of several replicas one works and the others stand by.

    Exit codes: 0 after SIGTERM or SIGINT; 1 when it cannot start or has broken; 2 for a wrong command line.
    """
    if bool(namespaces) == all_namespaces:
        raise click.UsageError("say what to watch: --namespace NAME, once for each, or --all-namespaces")

    from pointsman.controller.app import ControllerApp, ControllerOptions
    from pointsman.controller.logs import log_as_json
    from pointsman.controller.reconcile.observed import ClusterFacts
    from pointsman.controller.working import Pace
    from pointsman.kube.access import find_access
    from pointsman.kube.election import Terms
    from pointsman.kube.errors import AccessError
    from pointsman.kube.pacing import Timing
    from pointsman.kube.resource import Key

    log_as_json(logging.getLevelNamesMapping()[log_level.upper()])
    try:
        access = find_access(os.environ, home=Path.home(), context=context)
    except AccessError as error:
        click.echo(f"the operator cannot start: {error}", err=True)
        sys.exit(1)
    options = ControllerOptions(
        lease=Key(lease_namespace or access.namespace, lease_name),
        identity=identity or _identity(),
        namespaces=namespaces,
        router_namespace=router_namespace or "",
        router_selector=router_selector,
        told=ClusterFacts(own_image=own_image, own_pull_secrets=own_pull_secrets, engine_peers=engine_peers),
        host=host,
        port=port,
        timing=Timing(relist_s=relist_s),
        terms=Terms(lease_seconds, lease_seconds * 2 / 3, lease_seconds * 2 / 9),
        pace=Pace(workers=workers, resync_s=resync_s),
    )

    async def run() -> None:
        app = ControllerApp(access, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, app.stop)
        await app.run()

    try:
        asyncio.run(run())
    except OSError as error:
        click.echo(f"the operator cannot start: {error}", err=True)
        sys.exit(1)


def _identity() -> str:
    """A restarted container must not take itself for its predecessor, whose writes may still be under way."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}-{Random().randrange(16**8):08x}"
