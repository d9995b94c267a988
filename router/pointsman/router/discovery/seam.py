"""What router and discovery are to each other. A router without a cluster loads nothing that speaks to one."""

from collections.abc import Iterable
from typing import Any, Protocol

from prometheus_client.core import Metric

from pointsman.api.router_config import RouterConfig
from pointsman.router.discovery.found import Found


class Served(Protocol):
    """The router, as discovery needs it."""

    def file(self) -> RouterConfig:
        """What the configuration file says."""

    def found(self, found: Found) -> None:
        """Put it into force. May raise ConfigError, if nothing has changed yet."""


class Discovers(Protocol):
    """Discovery, as the router needs it."""

    @property
    def trouble(self) -> str:
        """Why the API server cannot be followed now; empty while it can."""

    def report(self) -> dict[str, Any]:
        """For the operator, and for people: what is in force, and what is not and why."""

    async def follow(self) -> None:
        """Keep up with the cluster, until cancelled."""

    async def synced(self) -> None:
        """Until the API server has told everything once."""

    def tell_now(self, served: Served) -> None:
        """Put what is known now into force. Raises ConfigError, with nothing changed."""

    async def tell(self, served: Served) -> None:
        """Put every change into force, until cancelled."""

    def reconsider(self) -> None:
        """The file has changed: names may be free, or taken, that were not."""

    def families(self) -> Iterable[Metric]:
        """Metrics."""
