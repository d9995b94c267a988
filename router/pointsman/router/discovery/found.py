"""From ModelServices and pods to what the router serves: pure, whole, and the same for the same input.

A ModelService without pods is served all the same: its requests wait for an instance, or hear 503, never 404.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from pointsman.api.resources.model_service import ModelService
from pointsman.api.resources.pool import PoolSpec
from pointsman.api.router_config import (
    CapabilitiesConfig,
    InstanceConfig,
    ModelConfig,
    PolicyConfig,
    RouterConfig,
    SloConfig,
    names_of,
)
from pointsman.core.instances import Role
from pointsman.router.discovery.pods import EnginePod


@dataclass(slots=True)
class Made:
    """Models and instances by what they were made from: one pod more must not cost making 2,000 others again."""

    models: dict[str, tuple[ModelService, ModelConfig]] = field(default_factory=dict)
    instances: dict[str, tuple[EnginePod, ModelService, InstanceConfig]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything the cluster says at one moment."""

    models: tuple[ModelConfig, ...] = ()
    pods: Mapping[str, str] = field(default_factory=dict)
    """UID of the pod at each url."""
    objectives: Mapping[str, int] = field(default_factory=dict)
    """Priorities of the ModelServices' classes."""
    services: Mapping[str, ModelService] = field(default_factory=dict)
    """The ModelServices that are served, each as it is in force, by `namespace/name`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why a ModelService is not served as it is now, or a pod not used, by `namespace/name`."""
    made: Made = field(default_factory=Made, compare=False, repr=False)
    """Parts that the next one can take over."""

    @property
    def generations(self) -> dict[str, int]:
        """Which generation of each ModelService is in force."""
        return {name: service.metadata.generation for name, service in self.services.items()}

    @property
    def may_sleep(self) -> frozenset[str]:
        """Models that may be without an instance: no pool of theirs that answers must have one."""
        return frozenset(
            service.spec.model.name
            for service in self.services.values()
            if not any(_fewest(pool) for pool in service.spec.pools if pool.role is not Role.PREFILL)
        )


def find(
    file: RouterConfig, services: Iterable[ModelService], pods: Iterable[EnginePod], before: Found
) -> Found:
    """What is served beside the models of `file`.

    A ModelService that cannot be served as it is now stays as it was in `before`: a slip takes no model away.
    Where two claim a name the older one has it.
    """
    made = Made()
    by_service: dict[str, list[EnginePod]] = {}
    for pod in sorted(pods, key=lambda pod: pod.name):
        if pod.usable:
            by_service.setdefault(pod.service, []).append(pod)
    taken = {name: "the router's own configuration" for model in file.models for name in names_of(model)}
    urls = {instance.url for model in file.models for instance in model.instances}
    models: list[ModelConfig] = []
    uids: dict[str, str] = {}
    objectives: dict[str, int] = {}
    served: dict[str, ModelService] = {}
    refused: dict[str, str] = {}
    for name, now in sorted(((key_of(service), service) for service in services), key=_age):
        for service in _versions(now, before.services.get(name)):
            try:
                _check_names(service, taken)
                model = _model_of(service, before.made, made)
            except ValueError as error:
                refused.setdefault(name, _words(error))
                continue
            instances = []
            for pod in by_service.get(name, ()):
                if pod.address in urls or pod.model not in {None, service.spec.model.name}:
                    continue
                try:
                    instances.append(_instance_of(service, pod, before.made, made))
                except ValueError as error:
                    refused[pod.name] = _words(error)
                    continue
                urls.add(pod.address)
                uids[pod.address] = pod.uid
            models.append(model.model_copy(update={"instances": tuple(instances)}))
            taken.update(dict.fromkeys(_names(service), name))
            for slo_class in service.spec.slo.classes:
                objectives.setdefault(slo_class.name, slo_class.priority)
            served[name] = service
            break
    return Found(tuple(models), uids, objectives, served, refused, made)


def merged(file: RouterConfig, found: Found) -> RouterConfig:
    """The configuration that is in force: the file's, and what was found. The file has the last word on objectives."""
    return file.model_copy(
        update={
            "models": (*file.models, *found.models),
            "objectives": {**found.objectives, **file.objectives},
        }
    )


def key_of(service: ModelService) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"


def _fewest(pool: PoolSpec) -> int:
    return pool.autoscaling.min_replicas if pool.autoscaling is not None else (pool.replicas or 0)


def _age(named: tuple[str, ModelService]) -> tuple[float, str]:
    created = named[1].metadata.creation_timestamp
    return (created.timestamp() if created else 0.0, named[0])


def _versions(now: ModelService, before: ModelService | None) -> Iterator[ModelService]:
    yield now
    if before is not None and before.metadata.uid == now.metadata.uid and before != now:
        yield before


def _names(service: ModelService) -> Iterator[str]:
    model = service.spec.model
    yield model.name
    yield from model.aliases
    yield from (adapter.name for adapter in service.spec.engine.adapters)


def _check_names(service: ModelService, taken: Mapping[str, str]) -> None:
    """Raises ValueError."""
    names = list(_names(service))
    for name in names:
        if name in taken:
            raise ValueError(f"spec.model: the name {name!r} is taken by {taken[name]}")
        if names.count(name) > 1:
            raise ValueError(f"spec.model: the name {name!r} is there twice")


def _model_of(service: ModelService, before: Made, made: Made) -> ModelConfig:
    """Raises ValueError."""
    name = key_of(service)
    known = before.models.get(name)
    made.models[name] = known if known is not None and known[0] is service else (service, _model(service))
    return made.models[name][1]


def _instance_of(service: ModelService, pod: EnginePod, before: Made, made: Made) -> InstanceConfig:
    """Raises ValueError."""
    known = before.instances.get(pod.name)
    if known is None or known[0] is not pod or known[1] is not service:
        known = (pod, service, _instance(service, pod))
    made.instances[pod.name] = known
    return known[2]


def _model(service: ModelService) -> ModelConfig:
    """Without its instances. Raises ValueError."""
    spec = service.spec
    return ModelConfig(
        name=spec.model.name,
        aliases=spec.model.aliases,
        context_tokens=spec.model.context_tokens,
        slo=SloConfig(ttft_ms=spec.slo.ttft_ms, tpot_ms=spec.slo.tpot_ms),
        slo_classes={
            slo_class.name: SloConfig(ttft_ms=slo_class.ttft_ms, tpot_ms=slo_class.tpot_ms)
            for slo_class in spec.slo.classes
        },
        policy=PolicyConfig(name=spec.routing.policy.name, parameters=spec.routing.policy.parameters),
        local_prefill_tokens=spec.routing.local_prefill_tokens,
        instances=(),
    )


def _instance(service: ModelService, pod: EnginePod) -> InstanceConfig:
    """Raises ValueError for what no router can speak to."""
    spec = service.spec
    given = tuple(adapter.name for adapter in spec.engine.adapters)
    # Only what both say: an adapter that is new is not in pods yet, one that is gone is nobody's any more.
    adapters = given if pod.adapters is None else tuple(name for name in given if name in pod.adapters)
    facts: dict[str, object] = {
        "url": pod.address,
        "role": pod.role,
        "connector": pod.connector,
        "pool": pod.pool,
        "adapters": adapters,
        "max_running": next((pool.max_running for pool in spec.pools if pool.name == pod.pool), 0),
        "capabilities": CapabilitiesConfig(transfer_group=pod.transfer_group),
    }
    if pod.bootstrap_port is not None:
        facts["bootstrap_port"] = pod.bootstrap_port
    return InstanceConfig.model_validate(facts)


def _words(error: ValueError) -> str:
    """For people, without pydantic's frame."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors(include_url=False)
    )
