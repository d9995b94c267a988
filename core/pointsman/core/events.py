"""The event records that every view is folded from. Data, never code; no prompt or answer text, ever."""

from dataclasses import dataclass

from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.requests import RequestView


@dataclass(slots=True)
class InstanceSeen:
    """An instance exists with these facts; repeated when one of them changes."""

    instance: Instance


@dataclass(slots=True)
class InstanceLost:
    """An instance is gone, and with it all that ran there and its prefixes."""

    id: InstanceId


@dataclass(slots=True)
class InstanceHealth:
    """Whether placements may go there: health checks, circuit breaker, draining, all folded into one answer."""

    id: InstanceId
    available: bool
    last_resort: bool = False
    """Not available, but only because requests failed there: health checks say that it is alive."""


@dataclass(slots=True)
class InstanceRole:
    """A flip: what the instance does from now on."""

    id: InstanceId
    role: Role


@dataclass(slots=True)
class EngineSample:
    """What the engine said of itself. None: the engine did not say (never read as zero)."""

    id: InstanceId
    at_s: float
    running: int | None = None
    waiting: int | None = None
    kv_used_share: float | None = None
    kv_capacity_tokens: int | None = None


@dataclass(init=False, slots=True)
class Placed:
    """A request was sent: to one instance, or to prefill on one and decode on another."""

    request: RequestView
    prefill: InstanceId | None
    """None: `decode` prefills by itself."""
    decode: InstanceId | None
    """None: not chosen yet (late decode)."""
    at_s: float
    cached_tokens: int
    """Prompt tokens that its writer expected in the cache of the instance that computes the prompt. It is told and not
    folded anew, since views of other routers, later, know of other prefixes."""

    def __init__(
        self,
        request: RequestView,
        prefill: InstanceId | None,
        decode: InstanceId | None,
        at_s: float,
        cached_tokens: int = 0,
    ) -> None:
        self.request = request
        self.prefill = prefill
        self.decode = decode
        self.at_s = at_s
        self.cached_tokens = cached_tokens


@dataclass(init=False, slots=True)
class DecodeChosen:
    """The decode instance of a split request was chosen, or chosen anew, after it was placed."""

    request_id: str
    decode: InstanceId
    at_s: float

    def __init__(self, request_id: str, decode: InstanceId, at_s: float) -> None:
        self.request_id = request_id
        self.decode = decode
        self.at_s = at_s


@dataclass(init=False, slots=True)
class PrefillEnded:
    """The prompt's KV exists: on a split request, the prefill instance is done with it (bar the transfer)."""

    request_id: str
    at_s: float

    def __init__(self, request_id: str, at_s: float) -> None:
        self.request_id = request_id
        self.at_s = at_s


@dataclass(init=False, slots=True)
class Progress:
    """Output tokens so far."""

    request_id: str
    output_tokens: int

    def __init__(self, request_id: str, output_tokens: int) -> None:
        self.request_id = request_id
        self.output_tokens = output_tokens


@dataclass(init=False, slots=True)
class Finished:
    """The request left its instances, in whatever way: completed, failed, cancelled, or to be placed anew."""

    request_id: str
    at_s: float
    completed: bool
    output_tokens: int = 0
    """All of them, where known; fewer than `Progress` told of change nothing."""

    def __init__(self, request_id: str, at_s: float, *, completed: bool, output_tokens: int = 0) -> None:
        self.request_id = request_id
        self.at_s = at_s
        self.completed = completed
        self.output_tokens = output_tokens


Event = (
    InstanceSeen
    | InstanceLost
    | InstanceHealth
    | InstanceRole
    | EngineSample
    | Placed
    | DecodeChosen
    | PrefillEnded
    | Progress
    | Finished
)
