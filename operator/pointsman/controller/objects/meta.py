"""Names, labels and owners of what the operator makes."""

from collections.abc import Mapping
from typing import Any

from pointsman.api.resources import names
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.canonical import short_hash

REVISION = f"{names.GROUP}/revision"
"""Label: what an instance is made from."""
APPLIED = f"{names.GROUP}/applied"
"""Annotation: a hash of all that was applied, so that a field that is no longer wanted is noticed."""
WORKER_COMPONENT = "engine-worker"
"""The other nodes of an instance that spans several: no router speaks to them."""

LONGEST_POOL_NAME = 56
"""So that an instance's name, which has 7 more characters, is fit for a label."""


def pool_name(service: str, pool: str, shape: str | None) -> str:
    """Of the InstancePool; `shape` only where the pool has several."""
    name = "-".join(part for part in (service, pool, shape) if part)
    if len(name) <= LONGEST_POOL_NAME:
        return name
    return f"{name[: LONGEST_POOL_NAME - 7].rstrip('-')}-{short_hash(name, 6)}"


def pool_labels(pool: str, spec: InstancePoolSpec) -> dict[str, str]:
    """Of all that belongs to an InstancePool."""
    return {
        names.MANAGED_BY: names.MANAGER,
        names.MODEL_SERVICE: spec.model_service,
        names.POOL: spec.pool,
        names.INSTANCE_POOL: pool,
    }


def owner(of: Mapping[str, Any]) -> dict[str, Any]:
    """The one controller of a child."""
    return {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "name": of["metadata"]["name"],
        "uid": of["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def stamped(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a hash of itself in its annotations."""
    meta = dict(wanted["metadata"])
    annotations = dict(meta.get("annotations", {}))
    annotations[APPLIED] = short_hash(wanted, 12)
    return {**wanted, "metadata": {**meta, "annotations": annotations}}
