"""What stands beside instances: revisions, disruption budget, network policy, profiles of simulated engines."""

from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.api.resources import names
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.blueprint import PROFILE_FILE, Blueprint, profile_map_name
from pointsman.controller.objects.meta import REVISION, WORKER_COMPONENT, owner, pool_labels, stamped

PROVEN_AT = f"{names.GROUP}/proven-at"
"""Annotation of a revision: when all instances were of it and ready. The latest is what a failed change goes back to."""
FAILED_AT = f"{names.GROUP}/failed-at"
"""Annotation of a revision: when it was given up."""
FAILED_BECAUSE = f"{names.GROUP}/failed-because"
"""Annotation of a revision: what its instances were seen to suffer from then."""


def _meta(pool: Mapping[str, Any], spec: InstancePoolSpec, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": pool["metadata"]["namespace"],
        "labels": pool_labels(pool["metadata"]["name"], spec),
        "ownerReferences": [owner(pool)],
    }


def revision_name(pool: str, revision: str) -> str:
    return f"{pool}-{revision}"


def controller_revision(
    pool: Mapping[str, Any],
    spec: InstancePoolSpec,
    made_from: Mapping[str, Any],
    revision: str,
    number: int,
    marks: Mapping[str, str],
) -> dict[str, Any]:
    """A blueprint as it is kept, with what was learned of it."""
    meta = _meta(pool, spec, revision_name(pool["metadata"]["name"], revision))
    meta["labels"][REVISION] = revision
    meta["annotations"] = dict(marks)
    return stamped(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": meta,
            "revision": number,
            "data": dict(made_from),
        }
    )


def disruption_budget(pool: Mapping[str, Any], spec: InstancePoolSpec) -> dict[str, Any]:
    """Nodes are drained one instance at a time; what is not ready holds no drain up."""
    name = pool["metadata"]["name"]
    return stamped(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _meta(pool, spec, name),
            "spec": {
                "maxUnavailable": max(1, spec.rollout.max_unavailable),
                "selector": {"matchLabels": {names.INSTANCE_POOL: name}},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
    )


def network_policy(
    pool: Mapping[str, Any], spec: InstancePoolSpec, peers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Engines ask nobody for a key: the given peers and other engines of the namespace may speak to them, nobody else."""
    name = pool["metadata"]["name"]
    engines = {
        "matchLabels": {names.MANAGED_BY: names.MANAGER},
        "matchExpressions": [
            {
                "key": names.COMPONENT,
                "operator": "In",
                "values": [names.ENGINE_COMPONENT, WORKER_COMPONENT],
            }
        ],
    }
    return stamped(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _meta(pool, spec, name),
            "spec": {
                "podSelector": {"matchLabels": {names.INSTANCE_POOL: name}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": engines}, *map(dict, peers)]}],
            },
        }
    )


def profile_map(
    pool: Mapping[str, Any], spec: InstancePoolSpec, made_from: Blueprint
) -> dict[str, Any] | None:
    """The file that a simulated engine of this blueprint reads."""
    if made_from.profile is None:
        return None
    name = profile_map_name(pool["metadata"]["name"], made_from.profile)
    return stamped(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _meta(pool, spec, name),
            "data": {PROFILE_FILE: made_from.profile},
        }
    )
