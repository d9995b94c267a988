"""What is kept of the cluster's objects."""

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from pointsman.api.resources import names
from pointsman.controller.items import Item, Kind
from pointsman.controller.observing import CHILDREN, Observer
from pointsman.controller.reconcile.observed import ClusterFacts, ObservedPool
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing
from pointsman.kube.resource import INSTANCE_POOLS, MODEL_SERVICES, PODS, Key, Object, Resource

WRITTEN = [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
POOL = Key("ns", "llama-main")


def observer() -> Observer:
    return Observer(
        ApiClient(Access("http://127.0.0.1:1")),
        lambda _: None,
        namespaces=["ns"],
        told=ClusterFacts(),
        timing=Timing(),
        clock=lambda: 0.0,
        rng=Random(0),
    )


def written(resource: Resource, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"{resource.plural}-{name}",
            "resourceVersion": "1",
            "labels": dict(labels),
            "managedFields": WRITTEN,
        },
        "spec": {"some": "thing"},
    }


def kept(known: Observer, resource: Resource, name: str) -> Object:
    found = known.caches[resource].get(Key("ns", name))
    assert found is not None
    return found


@pytest.mark.parametrize("resource", [MODEL_SERVICES, *CHILDREN], ids=lambda each: each.kind)
def test_who_wrote_which_field_is_not_kept_where_nobody_asks(resource: Resource) -> None:
    known = observer()
    told = written(resource, "it", {names.INSTANCE_POOL: POOL.name})
    known.learn(resource, told)
    without = {name: value for name, value in told["metadata"].items() if name != "managedFields"}
    assert kept(known, resource, "it") == {**told, "metadata": without}
    assert told["metadata"]["managedFields"] is WRITTEN


def test_of_a_pod_is_kept_how_it_is_and_not_what_it_is_made_of() -> None:
    known = observer()
    status = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "engine"}]}
    told = written(PODS, "it", {names.INSTANCE_POOL: POOL.name}) | {"status": {**status, "podIP": "10.0.0.1"}}
    known.learn(PODS, told)
    found = kept(known, PODS, "it")
    assert ("spec" in found, found["status"]) == (False, status)
    assert found["metadata"].keys() == told["metadata"].keys() - {"managedFields"}


def test_who_scaled_a_pool_is_kept() -> None:
    known = observer()
    known.learn(INSTANCE_POOLS, written(INSTANCE_POOLS, POOL.name, {names.MODEL_SERVICE: "llama"}))
    shown = known.gather(Item(Kind.POOL, POOL))
    assert isinstance(shown, ObservedPool)
    assert shown.pool["metadata"]["managedFields"] == WRITTEN
