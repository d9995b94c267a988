"""One instance as one child workload: a Deployment of one, or a LeaderWorkerSet of one group where it spans nodes."""

from collections.abc import Mapping
from typing import Any

from pointsman.api.resources import names
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.blueprint import Blueprint
from pointsman.controller.objects.canonical import short_hash
from pointsman.controller.objects.meta import REVISION, owner, pool_labels, stamped

DEPLOYMENT = ("apps/v1", "Deployment")
LEADER_WORKER_SET = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")


def instance_name(pool: str, pool_uid: str, revision: str, taken: frozenset[str]) -> str:
    """A name that no instance of the pool has, not even one that is ending.

    It follows from what is taken alone: whoever repeats a pass that was cut short makes the same instance, not another.
    """
    attempt = 0
    while (name := f"{pool}-{short_hash([pool_uid, revision, attempt], 6)}") in taken:
        attempt += 1
    return name


def workload(
    pool: Mapping[str, Any], spec: InstancePoolSpec, name: str, revision: str, made_from: Blueprint
) -> dict[str, Any]:
    """The child workload of one named instance."""
    pool_name = pool["metadata"]["name"]
    api_version, kind = LEADER_WORKER_SET if made_from.nodes > 1 else DEPLOYMENT
    own = {names.INSTANCE: name, REVISION: revision}
    meta = {
        "name": name,
        "namespace": pool["metadata"]["namespace"],
        "labels": {**pool_labels(pool_name, spec), names.COMPONENT: names.ENGINE_COMPONENT, **own},
        "ownerReferences": [owner(pool)],
    }
    if made_from.nodes > 1:
        body: dict[str, Any] = {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": made_from.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _with_labels(made_from.leader, own),
                "workerTemplate": _with_labels(made_from.worker or made_from.leader, own),
            },
        }
    else:
        body = {
            "replicas": 1,
            # An instance is replaced by another one; its own pods never surge past it.
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {names.INSTANCE: name}},
            "template": _with_labels(made_from.leader, own),
        }
    return stamped({"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": body})


def _with_labels(template: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    meta = template.get("metadata", {})
    return {**template, "metadata": {**meta, "labels": {**meta.get("labels", {}), **labels}}}
