"""The models of the custom resources: names on the wire, round trips, what newer definitions may hold."""

import pytest

from pointsman.api.profile import load_profile, load_profile_file, shipped_profiles
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.instance_pool import InstancePool
from pointsman.api.resources.model_service import ModelService

SERVICE = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "chat", "namespace": "team", "generation": 3},
    "spec": {
        "model": {"name": "tiny", "contextTokens": 4096},
        "engine": {"type": "simulated", "gracePeriodSeconds": 30},
        "pools": [
            {
                "name": "main",
                "replicas": 2,
                "accelerators": [{"name": "cpu", "count": 0, "costPerHour": 0.5}],
                "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
            }
        ],
    },
}


def test_a_model_service_is_read_with_its_defaults() -> None:
    service = ModelService.from_wire(SERVICE)
    assert service.metadata.generation == 3
    assert service.spec.model.context_tokens == 4096
    (pool,) = service.spec.pools
    assert (pool.role, pool.replicas, pool.autoscaling) == ("mixed", 2, None)
    assert pool.resources is not None
    assert pool.resources.limits == {"cpu": "2", "memory": "1Gi"}
    assert service.spec.engine.port == 8000
    assert service.spec.rollout.max_surge == 1


def test_it_comes_back_as_it_was_and_says_nothing_it_does_not_know() -> None:
    wire = ModelService.from_wire(SERVICE).to_wire()
    assert ModelService.from_wire(wire) == ModelService.from_wire(SERVICE)
    assert wire["metadata"] == SERVICE["metadata"]
    assert "status" not in wire
    assert "autoscaling" not in wire["spec"]["pools"][0]


def test_fields_of_newer_definitions_are_passed_over() -> None:
    newer = {**SERVICE, "spec": {**SERVICE["spec"], "colour": "blue"}}  # type: ignore[dict-item]
    assert ModelService.from_wire(newer) == ModelService.from_wire(SERVICE)


def test_an_instance_pool_holds_all_that_pods_are_made_from() -> None:
    service = ModelService.from_wire(SERVICE)
    (pool,) = service.spec.pools
    made = InstancePool.from_wire(
        {
            "metadata": {"name": "chat-main"},
            "spec": {
                "modelService": "chat",
                "pool": "main",
                "role": "mixed",
                "accelerator": pool.accelerators[0].to_wire(),
                "model": service.spec.model.to_wire(),
                "engine": service.spec.engine.to_wire(),
            },
        }
    )
    assert made.spec.replicas == 1
    assert made.spec.engine == service.spec.engine
    assert InstancePool.from_wire(made.to_wire()) == made


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_profile_is_the_same_as_file_and_as_resource(name: str) -> None:
    file = load_profile_file(name)
    resource = EngineProfile.from_file(file)
    assert resource.metadata.name == name
    assert "kvCapacityTokens" in resource.to_wire()["spec"]
    back = EngineProfile.from_wire(resource.to_wire()).to_file()
    assert back == file
    assert back.to_profile() == load_profile(name)
