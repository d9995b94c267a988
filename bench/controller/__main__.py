"""`make bench-operator`: an operator on a control plane of this machine's own, with fake nodes."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from controller.scale import Size, measure
from e2e.cluster import binaries, local
from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import Operator, direct_kubeconfig, grant, nursery
from pointsman.api.crd.definitions import definitions
from pointsman.kube.access import kubeconfig_access
from pointsman.kube.client import ApiClient

PORT = 18089
PODS_PER_NODE = 110


@click.command()
@click.option("--services", default=500, show_default=True)
@click.option("--pools", default=4, show_default=True, help="Of each ModelService.")
@click.option("--changes", default=200, show_default=True, help="One after the other, when all is calm.")
@click.option(
    "--steady", "steady_s", default=60.0, show_default=True, help="Seconds of calm that are measured."
)
@click.option(
    "--resync",
    "resync_s",
    default=30.0,
    show_default=True,
    help="The operator's, so that calm holds whole rounds.",
)
@click.option("--workers", default=8, show_default=True, help="The operator's.")
@click.option("--meanwhile", is_flag=True, help="Change some that exist while the others are created, too.")
@click.option("--json", "file", type=click.Path(path_type=Path))
def main(
    services: int,
    pools: int,
    changes: int,
    steady_s: float,
    resync_s: float,
    workers: int,
    file: Path | None,
    *,
    meanwhile: bool,
) -> None:
    """Create many ModelServices at once; measure how long it takes, what calm costs, and how soon a change arrives."""
    size = Size(services, pools, changes, steady_s, meanwhile)
    with local.start_control_plane(binaries.DEFAULT_KUBERNETES) as cluster:
        cluster.add_fake_nodes(size.services * size.pools // PODS_PER_NODE + 2, gpus=PODS_PER_NODE)
        cluster.apply(*definitions())
        eventually(
            lambda: cluster.run(["kubectl", "get", "pointsman"], check=False).returncode == 0,
            "the custom resources are not served",
        )
        with cluster.sandbox.network():
            results = asyncio.run(_run(cluster, size, resync_s, workers))
    results["workers"] = workers
    results["machine"] = {"cores": os.cpu_count(), "load_at_end": os.getloadavg()[0]}
    _show(results)
    if file is not None:
        file.write_text(json.dumps(results, indent=2) + "\n")


async def _run(cluster: LocalCluster, size: Size, resync_s: float, workers: int) -> dict[str, Any]:
    access = kubeconfig_access(Path(cluster.environment["KUBECONFIG"]))
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = direct_kubeconfig(Path(folder) / "kubeconfig", cluster, grant(cluster, []))
        async with nursery() as started, ApiClient(access) as admin:
            operator = Operator(
                started,
                kubeconfig,
                Path(folder),
                namespaces=[],
                port=PORT,
                extra=(
                    f"--resync={resync_s}",
                    f"--workers={workers}",
                    "--log-level=warning",
                    "--lease-seconds=30",
                ),
            )
            await operator.start()
            try:
                await asyncio.sleep(5.0)
                return await measure(admin, operator, cluster, size)
            finally:
                await operator.kill()


def _show(results: dict[str, Any]) -> None:
    table = Table(title=f"{results['services']} ModelServices, {results['pools']} pools")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name in ("applied_s", "all_pools_s", "all_deployments_s", "settled_s"):
        table.add_row(name, f"{results[name]:.1f}")
    for part, values in results.items():
        for name, value in values.items() if isinstance(values, dict) and part != "machine" else ():
            for below, figure in value.items() if isinstance(value, dict) else [("", value)]:
                table.add_row(f"{part}.{name}" + (f".{below}" if below else ""), f"{figure:.3g}")
    table.add_row("machine", str(results["machine"]))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
