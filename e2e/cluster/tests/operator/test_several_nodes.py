"""An instance that spans two nodes, as a LeaderWorkerSet of one group: made, rolled, drained and removed under load."""

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.leader_worker_set import RESOURCE
from e2e.cluster.released import JSON, Released, pool, released, simulated

pytestmark = [pytest.mark.usefixtures("leader_worker_sets"), pytest.mark.long, pytest.mark.timeout(900)]

# Accelerators would see to it; there are none here.
ON_NODES_APART: JSON = {
    "spec": {
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "pointsman"}},
                        "matchLabelKeys": ["pointsman.io/instance"],
                    }
                ]
            }
        }
    }
}


def spec(*args: str) -> JSON:
    wide = pool(replicas=1, parallelism={"nodes": 2}, template=ON_NODES_APART)
    return simulated(*args, pools=[wide], deadline_seconds=120)


@pytest.fixture
def service(
    cluster: Cluster, image_values: JSON, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    with released(cluster, "several-nodes", tmp_path_factory.mktemp("load"), image_values) as made:
        made.apply(spec())
        eventually(lambda: made.settled(1), "the instance does not serve", 180)
        eventually(made.ready, "the service is not ready", 60)
        yield made


def sets(service: Released) -> list[JSON]:
    """Those that stay."""
    found = service.namespace.get(RESOURCE)["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def pods_of(service: Released, instance: str) -> dict[str, JSON]:
    """An instance's pods by component, those that are ending as well."""
    found = service.namespace.get("pods", f"--selector=pointsman.io/instance={instance}")["items"]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def test_an_instance_over_two_nodes_lives_like_any_other(service: Released) -> None:
    (first,) = (each["metadata"]["name"] for each in sets(service))
    pods = pods_of(service, first)
    assert set(pods) == {"engine", "engine-worker"}
    assert len({each["spec"]["nodeName"] for each in pods.values()}) == 2

    def act() -> None:
        # Another kind of engine: the new instance serves before the old one is drained.
        service.apply(spec("--seed=7"))
        eventually(lambda: not pods_of(service, first), "the old instance does not go", 180)
        eventually(lambda: service.settled(1), "the change does not come to rest", 60)
        for size in (2, 1):
            service.namespace.kubectl("scale", "ipool", "tiny-main", f"--replicas={size}")
            eventually(partial(service.settled, size), f"there are not {size} instances", 120)

    fate = service.under_load(240, act)
    assert fate.failed == 0, fate.reasons
    (last,) = sets(service)
    assert last["metadata"]["name"] != first
    (container,) = last["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"]
    assert "--seed=7" in container["args"]
    service.namespace.kubectl("delete", "msvc", "tiny", "--timeout=120s", timeout=130)
    eventually(lambda: not service.namespace.get(RESOURCE)["items"], "the set stays")
    eventually(lambda: not pods_of(service, last["metadata"]["name"]), "its pods stay")


def test_a_lost_worker_makes_the_instance_anew(service: Released) -> None:
    """An engine cannot go on without one of its nodes: the whole group starts again, and the pool has its instance back."""
    (only,) = (each["metadata"]["name"] for each in sets(service))
    before = pods_of(service, only)
    service.namespace.kubectl(
        "delete", "pod", before["engine-worker"]["metadata"]["name"], "--grace-period=1", "--wait=false"
    )
    leader = before["engine"]["metadata"]["uid"]
    eventually(
        lambda: pods_of(service, only).get("engine", before["engine"])["metadata"]["uid"] != leader,
        "the leader is the old one",
        120,
    )
    eventually(lambda: service.settled(1), "the instance does not come back", 120)
    eventually(service.ready, "the service is not ready again", 60)
