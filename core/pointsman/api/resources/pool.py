"""Pools: instances alike in initial role and accelerator, how many, where, and how they change."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from pointsman.api.resources.base import Part, Rule, free_form, map_list
from pointsman.api.resources.kubernetes import (
    Arguments,
    DnsLabel,
    DnsName,
    Environment,
    NodeSelector,
    QualifiedName,
    ResourceRequirements,
    Tolerations,
)
from pointsman.api.resources.names import SHORT_NAME_LENGTH
from pointsman.core.instances import Role

ShortName = Annotated[DnsLabel, Field(max_length=SHORT_NAME_LENGTH)]
Replicas = Annotated[int, Field(ge=0, le=4096)]
Degree = Annotated[int, Field(ge=1, le=1024)]


def _unchanged(field: str) -> str:
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


class AcceleratorSpec(Part):
    """One shape of accelerators, and what its hours cost."""

    name: ShortName
    """The shape's name, like `h100x8`; part of the names of the objects that are made for it."""
    resource: QualifiedName = "nvidia.com/gpu"
    """The extended resource that pods ask for."""
    count: Annotated[int, Field(ge=0, le=64)] = 1
    """How many each pod of an instance asks for. 0: the engine needs none."""
    node_selector: NodeSelector | None = None
    """Labels of the nodes that have this shape, like `nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3`."""
    tolerations: Tolerations = ()
    """Taints of those nodes."""
    cost_per_hour: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """Price of one instance on this shape for an hour, in any one unit of money. 0: unknown."""
    profile: DnsName | None = None
    """The EngineProfile with the engine's speed on this shape. Default: the one that names this model, engine,
    accelerator and tensor parallel degree, where there is one."""

    rules: ClassVar = (
        Rule(
            "self.resource == oldSelf.resource && self.count == oldSelf.count",
            "resource and count of an accelerator cannot be changed: name another shape and remove this one",
        ),
        Rule(
            _unchanged("nodeSelector"),
            "nodeSelector of an accelerator cannot be changed: name another shape and remove this one",
            ".nodeSelector",
        ),
    )


class ParallelismSpec(Part):
    """How one instance spreads its model over accelerators."""

    tensor: Degree = 1
    """Tensor parallel degree: each layer is split."""
    pipeline: Degree = 1
    """Pipeline parallel degree: layers are dealt out."""
    data: Degree = 1
    """Data parallel degree: copies of the attention layers inside one instance, behind one address."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Nodes that one instance spans. More than 1 makes each instance a LeaderWorkerSet of one group, which must be
    installed in the cluster."""


class TopologySpec(Part):
    """Where instances stand with respect to each other. Preferences: nothing stays pending for them."""

    spread: Annotated[tuple[QualifiedName, ...], Field(max_length=4)] = ()
    """Node labels over whose values the pool's instances are spread, like `kubernetes.io/hostname`."""
    together: QualifiedName | None = None
    """A node label whose value all instances of the ModelService should share, like
    `topology.kubernetes.io/zone`: KV travels between them."""


class RolloutSpec(Part):
    """How instances are replaced when what they are made of changes: one by one, each drained before it is stopped.
    A change whose instances do not become ready is halted and rolled back.
    """

    max_surge: Annotated[int, Field(ge=0, le=4096)] = 1
    """Instances beyond the pool's size while it changes, as far as the budget allows. 0: in place."""
    max_unavailable: Annotated[int, Field(ge=0, le=4096)] = 0
    """Instances that may be missing while it changes."""
    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86400)] = 1800
    """A new instance that is not ready after so long has failed."""
    paused: bool = False
    """Whether changes wait."""

    rules: ClassVar = (
        Rule(
            "self.maxSurge > 0 || self.maxUnavailable > 0",
            "maxSurge and maxUnavailable must not both be 0: nothing could ever be replaced",
        ),
    )


class AutoscalingSpec(Part):
    """Bounds of a pool whose size follows demand: by Pointsman's planner, a HorizontalPodAutoscaler on the
    InstancePool, or `kubectl scale`.
    """

    min_replicas: Replicas = 1
    """The fewest instances. 0: the pool may sleep; requests then wait for its first instance."""
    max_replicas: Annotated[int, Field(ge=1, le=4096)]
    """The most instances."""

    rules: ClassVar = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not be greater than maxReplicas",
            ".minReplicas",
        ),
    )


class PoolParts(Part):
    """What a pool of a ModelService and an InstancePool have in common."""

    parallelism: ParallelismSpec = ParallelismSpec()
    """How one instance spreads its model over accelerators."""
    args: Arguments = ()
    """Arguments of this pool's engines, after those of the engine."""
    env: Environment = ()
    """Environment variables of this pool's engines; they replace the engine's of the same name."""
    resources: ResourceRequirements | None = None
    """CPU, memory and the like of the engine's container. Default: none asked for but the accelerators."""
    topology: TopologySpec = TopologySpec()
    """Where instances stand with respect to each other."""
    max_running: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests that routers let run on one instance at once. 0: no limit of the router's."""
    template: Annotated[dict[str, Any], free_form()] | None = None
    """A pod template, merged onto the pods that follow from this spec as `kubectl patch` (strategic) merges, for
    everything that has no field here. The engine's container is named `engine`."""


class PoolSpec(PoolParts):
    """Instances that begin in the same role."""

    name: ShortName
    """The pool's name; part of the names of the objects that are made for it."""
    role: Role = Role.MIXED
    """What instances do when they start: `prefill`, `decode`, or `mixed` for both."""
    replicas: Replicas | None = None
    """How many instances; of each shape, where there are several. Either this or autoscaling."""
    autoscaling: AutoscalingSpec | None = None
    """Bounds of a size that follows demand. Either this or replicas."""
    accelerators: Annotated[
        tuple[AcceleratorSpec, ...],
        Field(min_length=1, max_length=8),
        map_list(),
    ]
    """Shapes that instances may have. Several make one InstancePool each."""

    rules: ClassVar = (
        Rule(
            "has(self.replicas) != has(self.autoscaling)",
            "exactly one of replicas and autoscaling must be given",
        ),
        Rule(
            "self.role == oldSelf.role",
            "the role of a pool cannot be changed: add another pool and remove this one",
            ".role",
        ),
        Rule(
            "self.accelerators.all(shape, shape.count == 0 || shape.count * self.parallelism.nodes"
            " >= self.parallelism.tensor * self.parallelism.pipeline * self.parallelism.data)",
            "tensor x pipeline x data must not exceed the accelerators of one instance (count x nodes)",
            ".parallelism",
        ),
    )
