"""etcd's data with the API server's own first objects in it, made once per user: a control plane begins with a copy.

Roles, priority classes, flow schemas: some two hundred, which the API server makes one after the other before it counts as
ready. Where they are there, it still looks at each and mends what differs. Nothing else has run yet: what controllers make is
made anew in every cluster.
"""

from pathlib import Path

from e2e.cluster import binaries, network
from e2e.cluster.cached import cached
from e2e.cluster.control_plane import Binaries, ControlPlane
from e2e.cluster.sandbox import Sandbox


def prepared(built: Binaries) -> Path:
    """The folder of etcd's data for these versions. Raises CommandError, SandboxError, NotReadyError."""
    key = [built.kubernetes.name, built.etcd.name, network.SERVICES, network.CONTROL_PLANE]
    return cached("first-objects", key, lambda to: _make(to, built))


def _make(target: Path, built: Binaries) -> None:
    with Sandbox(binaries.user_cache() / "stores") as sandbox:
        network.connect(sandbox, [])
        plane = ControlPlane(sandbox, built, nodes=[])
        plane.wait_for_api_server()
        plane.stop_storing()
        plane.storage.rename(target)
