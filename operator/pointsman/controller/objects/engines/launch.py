"""What all engines' launches have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.drain import GraceTime
from pointsman.controller.objects.model_files import Files

SIDE_CHANNEL_PORT = 5600
"""Where NIXL exchanges what a transfer needs; with data parallelism each rank has the next port."""
BOOTSTRAP_PORT = 8998
"""Where Mooncake's and SGLang's prefill instances are asked for."""

#: Set on every engine container: other instances reach this one's KV at it.
POD_IP = "$(POD_IP)"


@dataclass(frozen=True, slots=True)
class Start:
    """All that a launch follows from."""

    pool: InstancePoolSpec
    files: Files
    grace: GraceTime
    profile_file: str | None = None
    """Where a simulated engine finds its profile."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the engine's process is started, watched and found."""

    arguments: tuple[str, ...]
    command: tuple[str, ...] = ()
    """Empty: the image's own entry point."""
    environment: Mapping[str, str] = field(default_factory=dict)
    worker_arguments: tuple[str, ...] | None = None
    """Of the other nodes of an instance that spans several."""
    health_path: str = "/health"
    busy_metrics: tuple[str, ...] = ()
    """Metrics whose sum is the number of requests in the engine."""
    router_connector: str = "none"
    """How routers speak to it about KV."""
    bootstrap_port: int | None = None
