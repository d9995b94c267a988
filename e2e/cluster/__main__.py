"""Start a cluster and stay in the foreground: `python -m e2e.cluster [--nodes N] [--kubernetes 1.36]`.

Writes `build/cluster/kubeconfig` and `build/cluster/run`. The cluster ends with this process, however that ends.
"""

import argparse
import os
import signal
from pathlib import Path

from e2e.cluster import binaries, images, local, requirements


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make cluster", description="a Kubernetes cluster on this machine")
    parser.add_argument("--nodes", type=int, default=2, help="real nodes; 0: a control plane only")
    parser.add_argument("--fake-nodes", type=int, default=0, help="nodes without containers, by kwok")
    parser.add_argument("--kubernetes", default=os.environ.get("KUBE") or binaries.DEFAULT_KUBERNETES)
    parser.add_argument(
        "--folder", type=Path, default=local.CLUSTERS, help="where kubeconfig and run are written"
    )
    return parser.parse_args()


def refuse_second(folder: Path) -> None:
    """Raises SystemExit when the folder's files lead to a cluster that runs: what they link to goes with its cluster."""
    if (folder / "kubeconfig").exists():
        raise SystemExit(
            f"{folder / 'run'} leads to a cluster that runs; for another: make cluster ARGS=--folder={folder}-2"
        )


def main() -> None:
    arguments = parse()
    arguments.folder = arguments.folder.resolve()
    if reasons := requirements.missing(nodes=arguments.nodes > 0):
        raise SystemExit("no cluster here: " + "; ".join(reasons))
    kubeconfig, wrapper = arguments.folder / "kubeconfig", arguments.folder / "run"
    refuse_second(arguments.folder)
    # `make` and `timeout` end what they started with SIGTERM; it ends the wait below as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.nodes:
            started = local.start_cluster(
                arguments.kubernetes, nodes=arguments.nodes, parent=arguments.folder
            )
        else:
            started = local.start_control_plane(arguments.kubernetes, parent=arguments.folder)
        with started as cluster:
            if arguments.nodes:
                # Nobody can pull it here: whoever tries the chart on this cluster names it as POINTSMAN_REDIS_IMAGE.
                cluster.import_image(images.redis())
            if arguments.fake_nodes:
                cluster.add_fake_nodes(arguments.fake_nodes)
            refuse_second(arguments.folder)  # it may have come up meanwhile
            try:
                kubeconfig.unlink(missing_ok=True)
                kubeconfig.symlink_to(cluster.environment["KUBECONFIG"])
                variables = {**cluster.environment, "KUBECONFIG": str(kubeconfig)}
                cluster.sandbox.write_wrapper(wrapper, variables)
                print(
                    f"Kubernetes {arguments.kubernetes} runs until Ctrl-C. Inside it: {wrapper} kubectl get nodes",
                    flush=True,
                )
                signal.pause()
            finally:
                kubeconfig.unlink(missing_ok=True)
                wrapper.unlink(missing_ok=True)
    except KeyboardInterrupt:
        print("ended")


if __name__ == "__main__":
    main()
