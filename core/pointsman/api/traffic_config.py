"""The parts of the router's configuration that say how much, how long, and what happens when engines fail."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from pointsman.api.config_file import Section
from pointsman.core.queueing.catalogue import make_order
from pointsman.core.queueing.order import Order

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class LimitsConfig(Section):
    """What one client, or all of them, may take up."""

    body_bytes: Count = 16 * 1024 * 1024
    header_bytes: Count = 64 * 1024
    headers: Count = 128
    url_bytes: Count = 8 * 1024
    connections: Count = 20_000
    concurrent_requests: Count = 10_000


class OrderConfig(Section):
    """In which order requests wait."""

    name: str = "first_come"
    parameters: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "OrderConfig":
        self.order()
        return self

    def order(self) -> Order:
        """Raises ValueError, listing what there is."""
        return make_order(self.name, self.parameters)


def _order(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class QueueConfig(Section):
    """Requests that find every instance full wait here."""

    order: Annotated[OrderConfig, BeforeValidator(_order)] = OrderConfig()
    max_requests: Annotated[int, Field(ge=0)] = 1024
    max_wait_s: Annotated[float, Field(ge=0)] = 30.0
    max_wait_for_instance_s: Annotated[float, Field(ge=0)] = 5.0
    """While nothing that serves the model is available: an engine that restarts, or is asked how it is, needs a moment."""
    retry_after_s: Seconds = 1.0
    """What rejected clients are told."""


class TimeoutsConfig(Section):
    """Seconds."""

    connect_s: Seconds = 2.0
    first_byte_s: Seconds = 300.0
    between_bytes_s: Seconds = 60.0
    total_s: Seconds = 3600.0
    client_head_s: Seconds = 10.0
    client_body_s: Seconds = 60.0
    client_idle_s: Seconds = 75.0


class RetriesConfig(Section):
    """New attempts at other instances, before the first byte of an answer only."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """Beyond the first."""
    backoff_s: Seconds = 0.02
    """Upper bound of the first random pause; doubled each time."""
    max_backoff_s: Seconds = 0.5


class HealthConfig(Section):
    """Active checks of every instance."""

    path: Annotated[str, Field(pattern=r"^/")] = "/health"
    interval_s: Seconds = 2.0
    timeout_s: Seconds = 2.0
    failures: Count = 2
    """In a row, until the instance is no longer used."""
    max_interval_s: Seconds = 5.0
    """Between checks of an instance that keeps failing."""


class BreakerConfig(Section):
    """Passive checks: an instance whose requests fail is left alone for a while."""

    failures: Annotated[float, Field(ge=1)] = 3
    """Least number of recent failures that opens it."""
    failed_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Least share of recent requests that failed."""
    half_life_s: Seconds = 10.0
    """After which a result counts half."""
    open_s: Seconds = 2.0
    max_open_s: Seconds = 30.0
    probes: Count = 1
    """Requests let through at once to find out whether it works again."""
    recoveries: Count = 2
    """Successful probes that close it."""


class ScrapeConfig(Section):
    """The engines' own metrics."""

    path: Annotated[str, Field(pattern=r"^/")] = "/metrics"
    interval_s: Seconds = 1.0
    timeout_s: Seconds = 1.0
