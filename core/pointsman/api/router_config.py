"""The router's configuration file. `docs/configuration.md` shows every field with its meaning."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, model_validator
from pydantic_core import PydanticCustomError

from pointsman.api.config_file import ExistingFile, Location, Section, conflicts, dotted, load_config
from pointsman.api.connector import Connector
from pointsman.api.traffic_config import (
    BreakerConfig,
    HealthConfig,
    LimitsConfig,
    QueueConfig,
    RetriesConfig,
    ScrapeConfig,
    Seconds,
    TimeoutsConfig,
)
from pointsman.core.instances import Role
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.placement.policy import Policy

Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise PydanticCustomError("base_url", "must be scheme, host and port, like http://10.0.3.7:8000")
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]


def _key_hash(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise PydanticCustomError(
            "key_hash",
            "must be 'sha256:' and 64 lower-case hex digits, never the key itself; "
            '`printf %s "$KEY" | sha256sum` prints them',
        )
    return value


KeyHash = Annotated[str, BeforeValidator(_key_hash)]


class ServerTls(Section):
    """TLS towards clients."""

    certificate: ExistingFile
    key: ExistingFile
    client_ca: ExistingFile | None = None
    """Clients must show a certificate signed by one of these."""


class ListenConfig(Section):
    """The public port."""

    host: str = "127.0.0.1"
    port: Port = 8080
    tls: ServerTls | None = None


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AdminConfig(Section):
    """The port of /health, /ready, /metrics and /admin/*."""

    host: str = "127.0.0.1"
    port: Port = 8081
    token_file: ExistingFile | None = None
    """Holds the bearer token of /admin/*."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.token_file is None and not is_loopback(self.host):
            raise PydanticCustomError(
                "token_file",
                "token_file is required when host is not a loopback address: /admin/* steers the router",
            )
        return self


class EngineTls(Section):
    """TLS towards engines whose url begins with https."""

    ca: ExistingFile | None = None
    """Absent: the system's certificate authorities."""
    certificate: ExistingFile | None = None
    key: ExistingFile | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise PydanticCustomError("pair", "certificate and key must be given together")
        return self


class CapabilitiesConfig(Section):
    """What an instance's connector allows. Absent fields follow from connector and role."""

    local_prefill: bool | None = None
    late_decode: bool | None = None
    kv_handle: bool | None = None
    replay_exact: bool | None = None
    transfer_group: str | None = None


class InstanceConfig(Section):
    """One engine."""

    url: BaseUrl
    role: Role = Role.MIXED
    connector: Connector = Connector.NONE
    pool: str = ""
    """Absent: the role's name."""
    adapters: tuple[Name, ...] = ()
    """LoRA adapters this instance answers to, besides its model."""
    max_running: Annotated[int, Field(ge=0)] = 0
    """Requests the router lets run here at once. 0: no limit of the router's."""
    kv_capacity_tokens: Annotated[int, Field(ge=0)] = 0
    """0: learned from the engine's metrics."""
    api_key_file: ExistingFile | None = None
    """Sent as bearer token to this engine."""
    bootstrap_host: str | None = None
    """Absent: the url's host."""
    bootstrap_port: Annotated[int, Field(ge=1, le=65535)] = 8998
    capabilities: CapabilitiesConfig = CapabilitiesConfig()

    @model_validator(mode="after")
    def _role_fits(self) -> Self:
        if self.role is Role.PREFILL and self.connector is Connector.NONE:
            raise PydanticCustomError(
                "connector",
                "connector is required for role 'prefill': its KV must reach a decode instance somehow",
            )
        return self


class SloConfig(Section):
    """Limits in milliseconds; absent: none."""

    ttft_ms: Milliseconds | None = None
    tpot_ms: Milliseconds | None = None


class PolicyConfig(Section):
    """How instances are chosen for a model's requests."""

    name: str = "prefix_affinity"
    parameters: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _exists(self) -> Self:
        self.policy()
        return self

    def policy(self) -> Policy:
        """Raises ValueError, listing what there is."""
        return make_policy(self.name, self.parameters)


def _policy(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class ModelConfig(Section):
    """One model and the instances that serve it."""

    name: Name
    """What the engines call it."""
    aliases: tuple[Name, ...] = ()
    """Other names that clients may use."""
    context_tokens: Annotated[int, Field(ge=0)] = 0
    """Prompts that are surely longer are refused by the router. 0: the engines decide."""
    slo: SloConfig = SloConfig()
    """Of requests that ask for nothing else."""
    slo_classes: dict[Name, SloConfig] = Field(default_factory=dict)
    """Of requests that name the class in `x-llm-d-inference-objective`; what is absent is as above."""
    policy: Annotated[PolicyConfig, BeforeValidator(_policy)] = PolicyConfig()
    local_prefill_tokens: Annotated[int, Field(ge=0)] = 256
    """A prompt of which no more than this is not cached skips the prefill pool where capabilities allow."""
    instances: tuple[InstanceConfig, ...]


class Rights(Section):
    """What a client may do and ask for."""

    models: tuple[Name, ...] = ()
    """Empty: all."""
    max_priority: int = 0
    """Higher is more urgent. What a request asks for beyond it is lowered to it."""
    slo_floor: SloConfig = SloConfig()
    """The tightest limits a request may ask for."""
    max_concurrent: Annotated[int, Field(ge=0)] = 0
    """Requests in the router at once. 0: only the router's own limit."""
    may_explain: bool = False
    """Whether `x-pointsman-explain: 1` is answered."""


class TenantConfig(Rights):
    """One group of users that shares keys, rights and a fair share of the engines."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    key_hashes: tuple[KeyHash, ...] = ()


class PromptsConfig(Section):
    """How prompts are measured and recognised without a tokenizer."""

    block_bytes: Annotated[int, Field(ge=32, le=65536)] = 256
    """One prefix hash per so many bytes of prompt."""
    tokens_per_byte: Annotated[float, Field(gt=0, le=1)] = 0.25
    """First guess, until answers have taught better."""
    hash_key_file: ExistingFile | None = None
    """Keys the hashes. Absent: a random key for each start."""


class KubernetesConfig(Section):
    """Which ModelServices are served, besides the models of the file. Their engines are found by their pods."""

    namespaces: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], ...] | None = (
        None
    )
    """Absent: the router's own. An empty list: all of the cluster."""
    kubeconfig: ExistingFile | None = None
    """Absent: the file in KUBECONFIG, else the pod's service account, else ~/.kube/config."""
    relist_s: Seconds = 300.0
    """How often everything is listed anew, so that a lost event does no lasting harm."""


class RouterConfig(Section):
    """The whole file."""

    models: tuple[ModelConfig, ...] = ()
    """Required, unless `kubernetes` is there."""
    kubernetes: KubernetesConfig | None = None
    listen: ListenConfig = ListenConfig()
    admin: AdminConfig = AdminConfig()
    tenants: tuple[TenantConfig, ...] = ()
    """None: everyone may use the router, with the rights of `open_access`."""
    open_access: Rights = Rights()
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Peers whose `x-tenant` header names the tenant."""
    objectives: dict[Name, int] = Field(default_factory=dict)
    """Priorities of the names in `x-llm-d-inference-objective`."""
    engine_tls: EngineTls = EngineTls()
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: RetriesConfig = RetriesConfig()
    health: HealthConfig = HealthConfig()
    breaker: BreakerConfig = BreakerConfig()
    scrape: ScrapeConfig = ScrapeConfig()
    prompts: PromptsConfig = PromptsConfig()
    sessions: Literal["relay", "tracked"] = "tracked"
    forbidden_fields: Literal["reject", "drop"] = "reject"
    remote_media: bool = False
    """Whether messages may hold URLs that engines then fetch."""
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """After SIGTERM: seconds of accepting requests while no longer ready, so that balancers can notice."""
    drain_grace_s: Seconds = 30.0
    """Then: seconds for answers under way to end."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        conflicts([*self._model_conflicts(), *self._tenant_conflicts()])
        return self

    def _model_conflicts(self) -> Iterator[tuple[Location, str]]:
        if not self.models and self.kubernetes is None:
            yield ("models",), "must have at least one item, unless there is the section kubernetes"
        names = _Taken()
        urls = _Taken()
        for m, model in enumerate(self.models):
            at: Location = ("models", m)
            yield from names.take((*at, "name"), model.name)
            for a, alias in enumerate(model.aliases):
                yield from names.take((*at, "aliases", a), alias)
            for adapter in sorted(adapters_of(model)):
                yield from names.take((*at, "instances"), adapter)
            for i, instance in enumerate(model.instances):
                yield from urls.take((*at, "instances", i, "url"), instance.url)
            if not model.instances:
                yield (*at, "instances"), "must have at least one item"
            elif all(instance.role is Role.PREFILL for instance in model.instances):
                yield (
                    (*at, "instances"),
                    "needs a 'decode' or 'mixed' instance: 'prefill' alone answers nothing",
                )

    def _tenant_conflicts(self) -> Iterator[tuple[Location, str]]:
        known = [name for model in self.models for name in names_of(model)]
        names = _Taken()
        hashes = _Taken()
        for r, rights in enumerate((self.open_access, *self.tenants)):
            at: Location = ("tenants", r - 1) if r else ("open_access",)
            for i, name in enumerate(rights.models):
                if name not in known and self.kubernetes is None:
                    yield (*at, "models", i), f"no model {name!r}; there are {', '.join(known)}"
        for t, tenant in enumerate(self.tenants):
            yield from names.take(("tenants", t, "name"), tenant.name)
            for k, key_hash in enumerate(tenant.key_hashes):
                yield from hashes.take(("tenants", t, "key_hashes", k), key_hash)


class _Taken:
    """Values that may appear once, with the place of each."""

    def __init__(self) -> None:
        self._places: dict[str, Location] = {}

    def take(self, place: Location, value: str) -> Iterator[tuple[Location, str]]:
        if value in self._places:
            yield place, f"{value!r} is already at {dotted(self._places[value])}"
        else:
            self._places[value] = place


def adapters_of(model: ModelConfig) -> frozenset[str]:
    """LoRA adapters that any instance of the model answers to."""
    return frozenset(adapter for instance in model.instances for adapter in instance.adapters)


def names_of(model: ModelConfig) -> tuple[str, ...]:
    """Every name under which clients may ask for it or its adapters."""
    return (model.name, *model.aliases, *sorted(adapters_of(model)))


def load_router_config(file: Path) -> RouterConfig:
    """Raises ConfigError."""
    return load_config(file, RouterConfig)
