"""What the hot path reads of the configuration: frozen, flat, looked up by the names that requests use."""

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.api.router_config import ModelConfig, RouterConfig, adapters_of
from pointsman.api.traffic_config import LimitsConfig, RetriesConfig, TimeoutsConfig
from pointsman.core.decide import ModelRules, Rules
from pointsman.core.slo import Slo
from pointsman.http.client import Timeouts


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that requests may use."""

    name: str
    """What the engines call it: an alias resolved, an adapter by its own name."""
    base: str
    """The configured model it belongs to."""
    context_tokens: int
    """Longest prompt plus answer. 0: unknown."""
    slo: Slo
    slo_classes: Mapping[bytes, Slo]
    """Limits by the name in `x-llm-d-inference-objective`."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What clients may take up, in bytes and counts."""

    body_bytes: int
    header_bytes: int
    headers: int
    url_bytes: int
    connections: int
    concurrent_requests: int


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long clients may take, in seconds."""

    head_s: float
    body_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Retries:
    """New attempts before the first byte. Pauses are random in [0, backoff_s * 2**attempt], at most max_backoff_s."""

    attempts: int
    backoff_s: float
    max_backoff_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, for as long as it is in force."""

    models: Mapping[str, ServedModel]
    """By every name that requests may use."""
    limits: ClientLimits
    client_timeouts: ClientTimeouts
    retries: Retries
    tracked_sessions: bool
    drop_forbidden_fields: bool
    """Else they are refused."""
    allow_remote_media: bool
    retry_after_s: float


def settings_of(config: RouterConfig) -> Settings:
    models = {name: served for model in config.models for name, served in _served(model)}
    return Settings(
        models=models,
        limits=_limits(config.limits),
        client_timeouts=ClientTimeouts(
            head_s=config.timeouts.client_head_s,
            body_s=config.timeouts.client_body_s,
            idle_s=config.timeouts.client_idle_s,
        ),
        retries=_retries(config.retries),
        tracked_sessions=config.sessions == "tracked",
        drop_forbidden_fields=config.forbidden_fields == "drop",
        allow_remote_media=config.remote_media,
        retry_after_s=config.queue.retry_after_s,
    )


def rules_of(config: RouterConfig, before: RouterConfig | None = None, made: Rules | None = None) -> Rules:
    """How decisions are made. Models whose policy is as it was in `before` keep the one they have in `made`."""
    queue = config.queue
    known = {} if before is None or made is None else {model.name: model.policy for model in before.models}
    models: dict[str, ModelRules] = {}
    for model in config.models:
        kept = made.models[model.name].policy if made and known.get(model.name) == model.policy else None
        rules = ModelRules(kept or model.policy.policy(), model.local_prefill_tokens)
        models.update(dict.fromkeys((model.name, *adapters_of(model)), rules))
    return Rules(
        models=models,
        order=queue.order.order(),
        max_waiting=queue.max_requests,
        max_wait_s=queue.max_wait_s,
        max_wait_for_instance_s=queue.max_wait_for_instance_s,
        retry_after_s=queue.retry_after_s,
    )


def engine_timeouts(timeouts: TimeoutsConfig) -> Timeouts:
    return Timeouts(
        connect_s=timeouts.connect_s,
        first_byte_s=timeouts.first_byte_s,
        between_bytes_s=timeouts.between_bytes_s,
        total_s=timeouts.total_s,
    )


def _served(model: ModelConfig) -> list[tuple[str, ServedModel]]:
    slo = Slo(ttft_s=_seconds(model.slo.ttft_ms), tpot_s=_seconds(model.slo.tpot_ms))
    classes = {
        name.encode(): Slo(
            ttft_s=_seconds(limits.ttft_ms) or slo.ttft_s, tpot_s=_seconds(limits.tpot_ms) or slo.tpot_s
        )
        for name, limits in model.slo_classes.items()
    }
    base = ServedModel(model.name, model.name, model.context_tokens, slo, classes)
    served = [(name, base) for name in (model.name, *model.aliases)]
    served += [
        (adapter, ServedModel(adapter, model.name, model.context_tokens, slo, classes))
        for adapter in sorted(adapters_of(model))
    ]
    return served


def _limits(limits: LimitsConfig) -> ClientLimits:
    return ClientLimits(
        body_bytes=limits.body_bytes,
        header_bytes=limits.header_bytes,
        headers=limits.headers,
        url_bytes=limits.url_bytes,
        connections=limits.connections,
        concurrent_requests=limits.concurrent_requests,
    )


def _retries(retries: RetriesConfig) -> Retries:
    return Retries(retries.attempts, retries.backoff_s, retries.max_backoff_s)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0
