"""ModelService: one model, the pools of engines that serve it, and what its requests are promised."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pointsman.api.resources.base import Generation, ObjectMeta, Part, Resource, Rule, map_list
from pointsman.api.resources.conditions import Conditions
from pointsman.api.resources.engine import EngineSpec
from pointsman.api.resources.model import ModelSpec
from pointsman.api.resources.names import API_VERSION, MODEL_SERVICE_NAME_LENGTH
from pointsman.api.resources.pool import PoolSpec, RolloutSpec
from pointsman.core.instances import Role
from pointsman.core.placement.catalogue import POLICIES

Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


class SloClass(Part):
    """Requests that name this class in the header `x-llm-d-inference-objective`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*$", max_length=63)]
    """The class' name."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Higher is more urgent, up to what the tenant may ask for."""
    ttft_ms: Milliseconds | None = None
    """Time to the first token. Default: the model's."""
    tpot_ms: Milliseconds | None = None
    """Mean time per further token. Default: the model's."""


class SloSpec(Part):
    """What requests are promised, in milliseconds."""

    ttft_ms: Milliseconds | None = None
    """Time to the first token, for requests that ask for nothing else. Default: none."""
    tpot_ms: Milliseconds | None = None
    """Mean time per further token, for requests that ask for nothing else. Default: none."""
    classes: Annotated[tuple[SloClass, ...], Field(max_length=16), map_list()] = ()
    """Classes of requests with limits and priorities of their own."""


class PolicySpec(Part):
    """How an instance is chosen for a request."""

    name: Annotated[
        str,
        Field(max_length=63),
        # Refused by the API server only: who reads may be older than the definitions.
        Field(json_schema_extra={"enum": sorted(POLICIES)}),
    ] = "prefix_affinity"
    """The policy's name, like `prefix_affinity`, `least_requests` or `round_robin`."""
    parameters: Annotated[dict[str, float], Field(max_length=32)] = Field(default_factory=dict)
    """Parameters of the policy, by name."""


class RoutingSpec(Part):
    """How routers place requests."""

    policy: PolicySpec = PolicySpec()
    """How an instance is chosen for a request."""
    local_prefill_tokens: Annotated[int, Field(ge=0, le=100_000_000)] = 256
    """A prompt of which no more than this is not cached skips the prefill pool where capabilities allow."""


class BudgetSpec(Part):
    """The most that all pools together may use."""

    accelerators: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """Accelerators by resource name, instances that surge during a rollout included. Default: no limit."""


class ModelServiceSpec(Part):
    """What should be served, and how."""

    model: ModelSpec
    """The model that is served."""
    engine: EngineSpec
    """The inference server of every instance."""
    pools: Annotated[
        tuple[PoolSpec, ...],
        Field(min_length=1, max_length=16),
        map_list(),
    ]
    """Pools of instances, by their names."""
    slo: SloSpec = SloSpec()
    """What requests are promised."""
    routing: RoutingSpec = RoutingSpec()
    """How routers place requests."""
    budget: BudgetSpec | None = None
    """The most that all pools together may use."""
    rollout: RolloutSpec = RolloutSpec()
    """How instances are replaced when what they are made of changes."""

    rules: ClassVar = (
        Rule(
            "self.engine.type == 'simulated' || has(self.model.source)",
            "model.source is required: only simulated engines do without",
            ".model.source",
            "FieldValueRequired",
        ),
        Rule(
            "!self.pools.exists(pool, pool.role == 'prefill') || self.pools.exists(pool, pool.role != 'prefill')",
            "a prefill pool needs a decode or mixed pool beside it: prefill alone answers nothing",
            ".pools",
        ),
        Rule(
            "!self.pools.exists(pool, pool.role == 'prefill')"
            " || !(self.engine.connector in ['none', 'lmcache'])",
            "a prefill pool needs engine.connector nixl, mooncake or sglang: its KV must reach a decode instance",
            ".engine.connector",
        ),
        Rule(
            "!(self.engine.type == 'sglang' || self.engine.connector == 'sglang')"
            " || !self.pools.exists(pool, pool.role == 'decode')"
            " || self.pools.exists(pool, pool.role == 'prefill')",
            "a decode pool of SGLang needs a prefill pool beside it: it cannot prefill by itself",
            ".pools",
        ),
    )


class PoolStatus(Part):
    """One pool as it is."""

    name: str
    """The pool's name."""
    role: Role
    """What its instances do when they start."""
    replicas: int = 0
    """Instances that exist."""
    ready_replicas: int = 0
    """Instances that serve."""
    updated_replicas: int = 0
    """Instances made from the spec as it is now."""
    desired_replicas: int = 0
    """Instances that there should be."""


class ModelServiceStatus(Part):
    """What is, as the controller sees it."""

    observed_generation: Generation = 0
    """The generation of the spec that this status is about."""
    conditions: Conditions = ()
    """What can be said of it: Ready, PoolsReady, RouterReady, ProfileResolved, SLOAttained, ScalingLimited, Degraded."""
    pools: Annotated[tuple[PoolStatus, ...], Field(max_length=16), map_list()] = ()
    """The pools as they are."""
    replicas: int = 0
    """Instances that exist."""
    ready_replicas: int = 0
    """Instances that serve."""
    desired_replicas: int = 0
    """Instances that there should be."""
    ready: str = ""
    """Instances that serve, of those that there should be, like `3/4`."""
    slo_attainment: str | None = None
    """Share of recent requests that met their limits, like `98.5%`. Absent: not known."""
    last_live_update: datetime | None = None
    """When figures of live traffic were last written; at most every 30 s."""


class ModelService(Resource):
    """A model that is served: engines of one kind in pools, behind the routers of the namespace's release."""

    api_version: Literal["pointsman.io/v1alpha1"] = API_VERSION
    kind: Literal["ModelService"] = "ModelService"
    metadata: ObjectMeta
    spec: ModelServiceSpec
    status: ModelServiceStatus = ModelServiceStatus()

    rules: ClassVar = (
        Rule(
            f"self.metadata.name.size() <= {MODEL_SERVICE_NAME_LENGTH}",
            f"metadata.name must have at most {MODEL_SERVICE_NAME_LENGTH} characters: names of instances begin with it",
        ),
    )
