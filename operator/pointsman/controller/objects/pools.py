"""InstancePools from a ModelService: one for each pool and accelerator shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources import names
from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.api.resources.pool import AcceleratorSpec, PoolSpec, RolloutSpec
from pointsman.controller.objects.meta import owner, pool_name, stamped

#: What an InstancePool takes over from its pool as it is.
SHARED = frozenset({"parallelism", "args", "env", "resources", "topology", "maxRunning", "template"})


@dataclass(frozen=True, slots=True)
class Member:
    """One InstancePool that a ModelService should have."""

    name: str
    pool: PoolSpec
    shape: AcceleratorSpec

    @property
    def initial_replicas(self) -> int:
        scaled = self.pool.autoscaling
        return scaled.min_replicas if scaled is not None else (self.pool.replicas or 0)

    @property
    def accelerators(self) -> int:
        """That one instance uses."""
        return self.shape.count * self.pool.parallelism.nodes


def members(service: str, spec: ModelServiceSpec) -> list[Member]:
    """In the order of the spec."""
    return [
        Member(pool_name(service, pool.name, shape.name if len(pool.accelerators) > 1 else None), pool, shape)
        for pool in spec.pools
        for shape in pool.accelerators
    ]


def instance_pool(
    service: Mapping[str, Any],
    spec: ModelServiceSpec,
    member: Member,
    rollout: RolloutSpec,
    profile: str | None,
    replicas: int | None,
) -> dict[str, Any]:
    """The InstancePool. `replicas` None: left to whoever set it."""
    pool = member.pool.to_wire()
    accelerator = member.shape.to_wire()
    if profile is not None:
        accelerator["profile"] = profile
    body: dict[str, Any] = {
        "modelService": service["metadata"]["name"],
        "pool": member.pool.name,
        "role": member.pool.role.value,
        "accelerator": accelerator,
        "model": spec.model.to_wire(),
        "engine": spec.engine.to_wire(),
        "rollout": rollout.to_wire(),
        **{name: value for name, value in pool.items() if name in SHARED},
    }
    wanted = stamped(
        {
            "apiVersion": names.API_VERSION,
            "kind": "InstancePool",
            "metadata": {
                "name": member.name,
                "namespace": service["metadata"]["namespace"],
                "labels": {
                    names.MANAGED_BY: names.MANAGER,
                    names.MODEL_SERVICE: service["metadata"]["name"],
                    names.POOL: member.pool.name,
                },
                "ownerReferences": [owner(service)],
            },
            "spec": body,
        }
    )
    # Not part of the stamp: how many there are is not a matter of what was applied.
    return wanted if replicas is None else {**wanted, "spec": {**wanted["spec"], "replicas": replicas}}
