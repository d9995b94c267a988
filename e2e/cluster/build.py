"""Build everything that the suite needs: `make cluster-build`. What is in the user's cache already takes no time."""

import os
import sys

from e2e.cluster import (
    binaries,
    first_objects,
    images,
    leader_worker_set,
    local,
    metrics_server,
    requirements,
)
from e2e.cluster.commands import CommandError


def suite_folders(kubernetes: str) -> list[str]:
    """Folders of `tools/` that the suite needs for a Kubernetes minor, in the order in which they are wanted."""
    folders = ["pause", "etcd", f"kubernetes-{kubernetes}", "kwok", "coredns", "network-policies"]
    return [*folders, "helm-4", "helm-3", "kubeconform"]


# What few tests need; they are skipped where it cannot be built.
EXTRAS = (metrics_server.FOLDER, leader_worker_set.FOLDER)


def main() -> None:
    if reasons := requirements.missing(nodes=True):
        # Not an error: the tests are skipped for the same reasons, and say so.
        print("nothing is built for a cluster here: " + "; ".join(reasons))
        return
    kubernetes = os.environ.get("KUBE") or binaries.DEFAULT_KUBERNETES
    for folder in suite_folders(kubernetes):
        binaries.build(folder)
    first_objects.prepared(local.build(kubernetes))
    local.store()
    image = images.project()
    for folder in EXTRAS:
        try:
            binaries.build(folder)
        except CommandError as error:
            print(f"{folder} is not there, and tests that need it are skipped: {error}", file=sys.stderr)
    print(f"{image.reference}: {image.size_bytes() / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
