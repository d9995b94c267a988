"""InstancePool: instances of one initial role on one accelerator shape. `spec.replicas` is what scaling writes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pointsman.api.resources.base import Generation, ObjectMeta, Part, Resource, Rule
from pointsman.api.resources.conditions import Conditions
from pointsman.api.resources.engine import EngineSpec
from pointsman.api.resources.kubernetes import DnsLabel
from pointsman.api.resources.model import ModelSpec
from pointsman.api.resources.names import API_VERSION
from pointsman.api.resources.pool import AcceleratorSpec, PoolParts, Replicas, RolloutSpec, ShortName
from pointsman.core.instances import Role


class InstancePoolSpec(PoolParts):
    """Everything that instances are made from. The controller writes it from a ModelService; `replicas` belongs to
    whoever scales.
    """

    replicas: Replicas = 1
    """How many instances."""
    model_service: DnsLabel
    """The ModelService whose requests the instances serve."""
    pool: ShortName
    """The pool's name there."""
    role: Role
    """What instances do when they start. It cannot be changed."""
    accelerator: AcceleratorSpec
    """The shape all instances have. Its resource, count and node selector cannot be changed."""
    model: ModelSpec
    """The model that is served."""
    engine: EngineSpec
    """The inference server of every instance."""
    rollout: RolloutSpec = RolloutSpec()
    """How instances are replaced when what they are made of changes."""

    rules: ClassVar = (
        Rule("self.role == oldSelf.role", "the role of an InstancePool cannot be changed", ".role"),
        Rule(
            "self.accelerator.name == oldSelf.accelerator.name",
            "the accelerator of an InstancePool cannot be changed",
            ".accelerator",
        ),
        Rule(
            "self.modelService == oldSelf.modelService && self.pool == oldSelf.pool",
            "modelService and pool of an InstancePool cannot be changed",
        ),
    )


class InstancePoolStatus(Part):
    """What is, as the controller sees it."""

    observed_generation: Generation = 0
    """The generation of the spec that this status is about."""
    replicas: int = 0
    """Instances that exist."""
    ready_replicas: int = 0
    """Instances that serve."""
    updated_replicas: int = 0
    """Instances made from the spec as it is now."""
    selector: str = ""
    """Selects the pool's pods, for autoscalers."""
    current_revision: Annotated[str, Field(max_length=63)] = ""
    """Hash of what instances are made from that is known to work: where a failed change goes back to."""
    update_revision: Annotated[str, Field(max_length=63)] = ""
    """Hash of what the spec wants instances to be made from."""
    failed_revision: Annotated[str, Field(max_length=63)] = ""
    """The update revision that was rolled back; it is not tried again."""
    conditions: Conditions = ()
    """What can be said of it: Ready, ProfileResolved, ScalingLimited, Degraded."""


class InstancePool(Resource):
    """Instances of a ModelService that begin in one role on one accelerator shape."""

    api_version: Literal["pointsman.io/v1alpha1"] = API_VERSION
    kind: Literal["InstancePool"] = "InstancePool"
    metadata: ObjectMeta
    spec: InstancePoolSpec
    status: InstancePoolStatus = InstancePoolStatus()
