"""A HorizontalPodAutoscaler on an InstancePool, on real nodes: up under load, down without, handed over and back."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.released import JSON, Released, pool, released, simulated

pytestmark = [pytest.mark.usefixtures("metrics"), pytest.mark.timeout(900)]

MOST = 3
# An engine that only answers its probes uses a tenth of it; the load below several times as much.
CPU = "50m"
RATE = 12.0
LOAD_SECONDS = 150.0
LIMITS = {"autoscaling": {"minReplicas": 1, "maxReplicas": MOST}}
AUTOSCALER: JSON = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "tiny-main"},
    "spec": {
        "scaleTargetRef": {
            "apiVersion": "pointsman.io/v1alpha1",
            "kind": "InstancePool",
            "name": "tiny-main",
        },
        "minReplicas": 1,
        "maxReplicas": MOST,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": CPU}},
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}},
    },
}


def spec(**size: Any) -> JSON:
    return simulated(pools=[pool(**size)], deadline_seconds=120)


@pytest.fixture
def service(
    cluster: Cluster, image_values: JSON, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    with released(cluster, "autoscaling", tmp_path_factory.mktemp("load"), image_values) as made:
        made.apply(spec(**LIMITS))
        eventually(lambda: made.settled(1), "the pool has not the one instance it begins with", 180)
        eventually(made.ready, "the service is not ready", 60)
        yield made


def replicas(service: Released) -> int:
    return int(service.pool()["spec"]["replicas"])


def scaling_is_active(service: Released) -> bool:
    conditions = service.namespace.get("hpa", "tiny-main").get("status", {}).get("conditions", [])
    return any(found["type"] == "ScalingActive" and found["status"] == "True" for found in conditions)


def writers(service: Released) -> set[str]:
    """Who has written the size, as the API server keeps it."""
    found = service.namespace.get("ipool", "tiny-main", "--show-managed-fields")["metadata"]["managedFields"]
    return {each["manager"] for each in found if "f:replicas" in each["fieldsV1"].get("f:spec", {})}


def test_an_autoscaler_takes_a_pool_up_and_down_and_hands_it_over(service: Released) -> None:
    reached: list[int] = []

    def up_and_over() -> None:
        service.namespace.apply(AUTOSCALER)
        eventually(lambda: scaling_is_active(service), "the autoscaler sees no metrics", 90)
        eventually(lambda: replicas(service) > 1, "it does not go up", 90)
        assert "kube-controller-manager" in writers(service)
        # To a fixed size, which somebody else has changed: it stays what it is, and the status says so.
        service.namespace.kubectl("delete", "hpa", "tiny-main")
        reached.append(replicas(service))
        service.apply(spec(replicas=1))
        eventually(
            lambda: service.condition("Degraded").get("reason") == "ScaledByOthers", "nobody says so", 60
        )
        assert replicas(service) == reached[0]
        # And back: the number that there is, not the smallest.
        service.apply(spec(**LIMITS))
        eventually(lambda: service.settled(reached[0]), "the instances do not serve", 90)

    fate = service.under_load(LOAD_SECONDS, up_and_over, after=5, rate=RATE)
    assert fate.failed == 0, fate.reasons
    assert replicas(service) == reached[0] > 1
    service.namespace.apply(AUTOSCALER)
    eventually(lambda: replicas(service) == 1, "it does not go down", 150)
    eventually(lambda: service.settled(1), "instances stay", 90)
    assert service.ready()
