"""The custom resources on a real API server: accepted definitions, good and bad specs, what kubectl makes of them."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import manifests
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.local import LocalCluster
from pointsman.api.crd.definitions import DEFINITIONS, definitions
from pointsman.api.profile import load_profile_file, shipped_profiles
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.model_service import ModelService

JSON = dict[str, Any]

SHAPE: JSON = {"name": "h100", "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}
POOL: JSON = {"name": "main", "replicas": 1, "accelerators": [SHAPE]}
PREFILL: JSON = {"name": "prefill", "role": "prefill", "replicas": 1, "accelerators": [SHAPE]}
DECODE: JSON = {"name": "decode", "role": "decode", "replicas": 2, "accelerators": [SHAPE]}
HUB: JSON = {"hub": {"id": "meta-llama/Llama-3.1-8B-Instruct"}}
SPEC: JSON = {
    "model": {"name": "llama", "source": HUB},
    "engine": {"type": "vllm", "image": "vllm/vllm-openai:v0.32.0"},
    "pools": [POOL],
}


def changed(path: str, value: Any, spec: JSON = SPEC) -> JSON:
    """A spec with one thing set, or removed where the value is None."""
    result = copy.deepcopy(spec)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = result
    for part in way:
        place = place[part] if isinstance(part, int) else place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


def pools(*listed: JSON, connector: str = "none", engine: str = "vllm") -> JSON:
    return changed(
        "pools", list(listed), changed("engine/connector", connector, changed("engine/type", engine))
    )


def service(spec: JSON, name: str = "llama") -> JSON:
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def pool_object(**spec: Any) -> JSON:
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "InstancePool",
        "metadata": {"name": "llama-main", "namespace": "default"},
        "spec": {
            "modelService": "llama",
            "pool": "main",
            "role": "decode",
            "accelerator": SHAPE,
            "model": SPEC["model"],
            "engine": SPEC["engine"],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def api(control_plane: LocalCluster) -> LocalCluster:
    """An API server that knows the resources."""
    control_plane.apply(*definitions())
    for definition in DEFINITIONS:
        control_plane.kubectl(
            "wait", "--for=condition=Established", f"crd/{definition.name}", "--timeout=30s"
        )
    eventually(lambda: "modelservices" in control_plane.kubectl("api-resources"), "not discovered")
    return control_plane


@pytest.fixture
def clean(api: LocalCluster) -> Iterator[LocalCluster]:
    yield api
    api.kubectl("delete", "modelservices,instancepools", "--all")


def refusal(api: LocalCluster, an_object: JSON) -> str:
    with pytest.raises(CommandError) as caught:
        api.kubectl("create", "-f", "-", stdin=json.dumps(an_object))
    return str(caught.value)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_definitions_are_structural_and_their_rules_fit_the_cost_budget(
    api: LocalCluster, definition: Any
) -> None:
    conditions = {found["type"]: found for found in api.get("crd", definition.name)["status"]["conditions"]}
    assert conditions["Established"]["status"] == "True"
    assert conditions["NamesAccepted"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions


GOOD: dict[str, JSON] = {
    "one pool": SPEC,
    "prefill and decode apart": pools(PREFILL, DECODE, connector="nixl"),
    "prefill beside mixed": pools(PREFILL, POOL, connector="mooncake"),
    "SGLang apart": pools(PREFILL, DECODE, connector="sglang", engine="sglang"),
    "decode alone on vLLM": pools(DECODE, connector="nixl"),
    "autoscaled, from zero": changed(
        "pools/0",
        {"name": "main", "accelerators": [SHAPE], "autoscaling": {"minReplicas": 0, "maxReplicas": 4}},
    ),
    "simulated without image and source": changed(
        "model", {"name": "tiny"}, changed("engine", {"type": "simulated", "adapters": [{"name": "sql"}]})
    ),
    "several shapes": changed(
        "pools/0/accelerators", [SHAPE, {"name": "a100", "count": 2, "costPerHour": 2.5}]
    ),
    "tensor parallel over two nodes": changed(
        "pools/0",
        {
            **POOL,
            "accelerators": [{**SHAPE, "count": 8}],
            "parallelism": {"tensor": 8, "pipeline": 2, "nodes": 2},
        },
    ),
    "quantities": changed(
        "pools/0/resources",
        {"limits": {"cpu": "8", "memory": "64Gi", "rdma/ib": "1"}, "requests": {"cpu": "500m"}},
    ),
    "a pod template with anything": changed(
        "pools/0/template", {"spec": {"hostNetwork": True, "containers": [{"name": "engine", "tty": True}]}}
    ),
    "a model in a volume": changed("model/source", {"pvc": {"claimName": "weights", "path": "llama"}}),
    "a model in an image": changed("model/source", {"image": {"reference": "example.com/llama:1"}}),
    "classes and a budget": changed(
        "slo",
        {"ttftMs": 2000, "tpotMs": 50, "classes": [{"name": "batch", "priority": -10}]},
        changed("budget", {"accelerators": {"nvidia.com/gpu": 8}}),
    ),
    "variables from elsewhere": changed(
        "engine/env",
        [
            {"name": "HF_HOME", "value": "/cache"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "one"}}},
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ],
    ),
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_good_specs_are_taken_and_read_back(clean: LocalCluster, spec: JSON) -> None:
    clean.apply(service(spec))
    stored = clean.get("modelservice", "llama")
    read = ModelService.from_wire(stored)
    assert read.spec == ModelService.from_wire(service(spec)).spec, (
        "defaults of models and definitions differ"
    )
    # What is written back as it was read changes nothing.
    clean.apply(read.to_wire() | {"metadata": service(spec)["metadata"]})
    assert clean.get("modelservice", "llama")["metadata"]["generation"] == 1


LONG = "x" * 5000
BAD: dict[str, tuple[JSON, list[str]]] = {
    "no model": (changed("model", None), ["spec.model: Required value"]),
    "no pools": (changed("pools", []), ["spec.pools", "should have at least 1 items"]),
    "unknown engine": (
        changed("engine/type", "tgi"),
        ["spec.engine.type", 'supported values: "vllm", "sglang"'],
    ),
    "misspelt field": (changed("pools/0/replica", 2), ['unknown field "spec.pools[0].replica"']),
    "image missing": (changed("engine/image", None), ["spec.engine.image", "only simulated engines"]),
    "source missing": (changed("model/source", None), ["spec.model.source", "model.source is required"]),
    "two sources": (
        changed("model/source", {**HUB, "pvc": {"claimName": "a"}}),
        ["spec.model.source", "exactly one of hub, pvc and image"],
    ),
    "adapter without source": (
        changed("engine/adapters", [{"name": "sql"}]),
        ["spec.engine.adapters", "each adapter needs a source"],
    ),
    "neither replicas nor autoscaling": (
        changed("pools/0/replicas", None),
        ["spec.pools[0]", "exactly one of replicas and autoscaling"],
    ),
    "replicas and autoscaling": (
        changed("pools/0/autoscaling", {"maxReplicas": 3}),
        ["spec.pools[0]", "exactly one of replicas and autoscaling"],
    ),
    "min beyond max": (
        changed(
            "pools/0",
            {"name": "main", "accelerators": [SHAPE], "autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
        ),
        ["spec.pools[0].autoscaling.minReplicas", "must not be greater than maxReplicas"],
    ),
    "negative replicas": (
        changed("pools/0/replicas", -1),
        ["spec.pools[0].replicas", "greater than or equal to 0"],
    ),
    "prefill alone": (
        pools(PREFILL, connector="nixl"),
        ["spec.pools", "a prefill pool needs a decode or mixed pool beside it"],
    ),
    "prefill without connector": (
        pools(PREFILL, DECODE),
        ["spec.engine.connector", "its KV must reach a decode instance"],
    ),
    "SGLang decode alone": (
        pools(DECODE, connector="sglang", engine="sglang"),
        ["spec.pools", "needs a prefill pool beside it"],
    ),
    "SGLang's connector on vLLM": (
        changed("engine/connector", "sglang"),
        ["spec.engine.connector", "SGLang's own"],
    ),
    "two pools of one name": (changed("pools", [POOL, POOL]), ["spec.pools[1]", "Duplicate value"]),
    "no shape": (changed("pools/0/accelerators", []), ["spec.pools[0].accelerators", "at least 1 items"]),
    "too parallel": (
        changed("pools/0/parallelism", {"tensor": 4}),
        ["spec.pools[0].parallelism", "must not exceed the accelerators"],
    ),
    "nothing may move": (
        changed("rollout", {"maxSurge": 0, "maxUnavailable": 0}),
        ["spec.rollout", "must not both be 0"],
    ),
    "a pool's name too long": (
        changed("pools/0/name", "a-very-long-pool-name"),
        ["spec.pools[0].name", "more than 15"],
    ),
    "a pool's name in capitals": (
        changed("pools/0/name", "Main"),
        ["spec.pools[0].name", "must be lower-case"],
    ),
    "an argument beyond bounds": (changed("engine/args", [LONG]), ["spec.engine.args[0]", "more than 4096"]),
    "a bad quantity": (
        changed("engine/shmSize", "16 gigs"),
        ["spec.engine.shmSize", "must be an amount like 500m, 4 or 16Gi"],
    ),
    "a variable twice": (
        changed("engine/env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        ["spec.engine.env[1]", "Duplicate value"],
    ),
    "a port of the system's": (
        changed("engine/port", 80),
        ["spec.engine.port", "greater than or equal to 1024"],
    ),
    "a limit of nothing": (changed("slo", {"ttftMs": 0}), ["spec.slo.ttftMs", "greater than or equal to 1"]),
    "a path from the root": (
        changed("model/source", {"pvc": {"claimName": "a", "path": "/etc"}}),
        ["spec.model.source.pvc.path", "without a slash in front"],
    ),
    "a name with spaces": (changed("model/name", "my model"), ["spec.model.name", "like `org/model-8b`"]),
    "memory in a unit of shops": (
        changed("pools/0/resources", {"requests": {"memory": "32GB"}}),
        ["spec.pools[0].resources.requests[memory]", "must be an amount"],  # 1.36 alone shows the value
    ),
    "an address for an id": (
        changed("model/source", {"hub": {"id": "https://huggingface.co/org/model"}}),
        ["spec.model.source.hub.id", "a repository's id"],
    ),
    "a policy that is none": (
        changed("routing", {"policy": {"name": "fastest"}}),
        ["spec.routing.policy.name", '"fastest"', '"least_requests"'],
    ),
    "an engine in capitals": (changed("engine/type", "vLLM"), ["spec.engine.type", '"vllm", "sglang"']),
    "a limit in seconds": (changed("slo", {"ttftMs": "2s"}), ["spec.slo.ttftMs", "of type integer"]),
    "arguments in one line": (
        changed("engine/args", "--seed=1 --dtype=auto"),
        ["spec.engine.args", "of type array"],
    ),
    "a shape that is only a name": (
        changed("pools/0/accelerators", ["h100"]),
        ["spec.pools[0].accelerators[0]", "of type object"],
    ),
    "a field of another level": (changed("pools/0/image", "x"), ['unknown field "spec.pools[0].image"']),
    "a share to surge": (
        changed("rollout", {"maxSurge": "25%"}),
        ["spec.rollout.maxSurge", "of type integer"],
    ),
}


@pytest.mark.parametrize(("spec", "said"), BAD.values(), ids=BAD)
def test_bad_specs_are_refused_with_the_fields_name(api: LocalCluster, spec: JSON, said: list[str]) -> None:
    message = refusal(api, service(spec))
    assert [part for part in said if part not in message] == [], message


def test_a_service_whose_name_leaves_no_room_for_its_instances_is_refused(api: LocalCluster) -> None:
    assert "at most 24 characters" in refusal(api, service(SPEC, name="a-name-of-twenty-five-xxx"))


SHAPED = changed("pools/0/accelerators", [{**SHAPE, "tolerations": [{"operator": "Exists"}]}])
FIXED: dict[str, tuple[JSON, JSON, str]] = {
    "role": (
        pools(DECODE, connector="nixl"),
        pools({**DECODE, "role": "mixed"}, connector="nixl"),
        "the role of a pool cannot be changed",
    ),
    "role left to its default": (
        pools(DECODE, connector="nixl"),
        pools({key: value for key, value in DECODE.items() if key != "role"}, connector="nixl"),
        "the role of a pool cannot be changed",
    ),
    "count": (SPEC, changed("pools/0/accelerators/0/count", 2), "resource and count of an accelerator"),
    "resource": (SPEC, changed("pools/0/accelerators/0/resource", "amd.com/gpu"), "resource and count"),
    "node selector": (
        SPEC,
        changed("pools/0/accelerators/0/nodeSelector", {"a": "b"}),
        "nodeSelector of an accelerator cannot be changed",
    ),
    "node selector that goes": (
        SPEC,
        changed("pools/0/accelerators/0/nodeSelector", None),
        "nodeSelector of an accelerator cannot be changed",
    ),
    "node selector that comes": (
        changed("pools/0/accelerators/0/nodeSelector", None),
        SPEC,
        "nodeSelector of an accelerator cannot be changed",
    ),
}


@pytest.mark.parametrize(("before", "after", "said"), FIXED.values(), ids=FIXED)
def test_what_instances_are_cannot_be_changed(
    clean: LocalCluster, before: JSON, after: JSON, said: str
) -> None:
    clean.apply(service(before))
    with pytest.raises(CommandError, match=said):
        clean.apply(service(after))


FREE: dict[str, tuple[JSON, JSON]] = {
    "another pool": (SPEC, changed("pools", [POOL, {**POOL, "name": "more"}])),
    "pools in another order": (
        pools(PREFILL, DECODE, connector="nixl"),
        pools(DECODE, PREFILL, connector="nixl"),
    ),
    "another shape instead": (SPEC, changed("pools/0/accelerators", [{"name": "h200"}])),
    "tolerations and costs": (SPEC, changed("pools/0/accelerators/0/costPerHour", 9, SHAPED)),
    "autoscaling instead of replicas": (
        SPEC,
        changed("pools/0", {"name": "main", "accelerators": [SHAPE], "autoscaling": {"maxReplicas": 4}}),
    ),
    "image and arguments": (SPEC, changed("engine/args", ["--seed=1"], changed("engine/image", "other:2"))),
}


@pytest.mark.parametrize(("before", "after"), FREE.values(), ids=FREE)
def test_everything_else_may_change(clean: LocalCluster, before: JSON, after: JSON) -> None:
    clean.apply(service(before))
    clean.kubectl("replace", "-f", "-", stdin=json.dumps(service(after)))
    assert clean.get("modelservice", "llama")["metadata"]["generation"] == 2


def test_an_instance_pool_keeps_role_and_accelerator(clean: LocalCluster) -> None:
    clean.apply(pool_object())
    for change in ({"role": "mixed"}, {"accelerator": {**SHAPE, "name": "a100"}}, {"modelService": "other"}):
        with pytest.raises(CommandError, match="cannot be changed"):
            clean.apply(pool_object(**change))
    clean.apply(pool_object(engine={**SPEC["engine"], "image": "other:2"}))


def test_replicas_are_always_there_and_scale_writes_them(clean: LocalCluster) -> None:
    clean.apply(pool_object())
    assert clean.get("ipool", "llama-main")["spec"]["replicas"] == 1
    clean.kubectl("scale", "ipool", "llama-main", "--replicas=5")
    clean.apply(pool_object(args=["--seed=1"]))
    assert clean.get("ipool", "llama-main")["spec"]["replicas"] == 5, "an apply without replicas keeps them"


def test_scale_takes_replicas_over_from_who_applied_them(clean: LocalCluster) -> None:
    clean.apply(pool_object(replicas=2))
    assert owners_of_replicas(clean) == {"e2e"}
    clean.kubectl("scale", "ipool", "llama-main", "--replicas=5")
    assert owners_of_replicas(clean) == {"kubectl"}
    clean.apply(pool_object())
    assert clean.get("ipool", "llama-main")["spec"]["replicas"] == 5


def owners_of_replicas(api: LocalCluster) -> set[str]:
    entries = api.get("ipool", "llama-main", "--show-managed-fields")["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


def test_autoscalers_see_size_and_selector(clean: LocalCluster) -> None:
    clean.apply(pool_object(replicas=3))
    status = {
        "status": {"replicas": 2, "readyReplicas": 1, "selector": "pointsman.io/instance-pool=llama-main"}
    }
    clean.kubectl(
        "patch", "ipool", "llama-main", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    scale = json.loads(
        clean.kubectl(
            "get", "--raw", "/apis/pointsman.io/v1alpha1/namespaces/default/instancepools/llama-main/scale"
        )
    )
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "pointsman.io/instance-pool=llama-main"}


def test_kubectl_get_shows_what_matters(clean: LocalCluster) -> None:
    clean.apply(service(SPEC), pool_object())
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "PoolsNotReady",
        "message": "main: 0 of 1 instances serve",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"status": {"ready": "0/1", "conditions": [condition]}}
    clean.kubectl("patch", "msvc", "llama", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    heads, values = (line.split() for line in clean.kubectl("get", "msvc", "-o", "wide").splitlines())
    shown = dict(zip(heads, values, strict=False))
    assert heads == [
        "NAME",
        "MODEL",
        "ENGINE",
        "INSTANCES",
        "READY",
        "SLO",
        "AGE",
        "REASON",
        "ROUTER",
        "DEGRADED",
    ]
    assert (shown["MODEL"], shown["INSTANCES"], shown["READY"]) == ("llama", "0/1", "False")
    assert "PoolsNotReady" in values
    heads, values = (line.split() for line in clean.kubectl("get", "ipool").splitlines())
    assert heads[:5] == ["NAME", "SERVICE", "ROLE", "ACCELERATOR", "DESIRED"]
    assert values[:5] == ["llama-main", "llama", "decode", "h100", "1"]
    everything = clean.kubectl("get", "pointsman", "-o", "name")
    assert everything.split() == ["instancepool.pointsman.io/llama-main", "modelservice.pointsman.io/llama"]


EXPLAINED = {
    "modelservice": "A model that is served",
    "modelservice.spec.pools": "Pools of instances, by their names.",
    "modelservice.spec.pools.autoscaling": "Bounds of a size that follows demand",
    "modelservice.spec.pools.accelerators.nodeSelector": "Labels of the nodes that have this shape",
    "msvc.spec.engine.connector": "How KV gets from prefill to decode instances",
    "msvc.status.conditions": "What can be said of it",
    "ipool.spec.replicas": "How many instances.",
    "eprof.spec.cost": "What one iteration of continuous batching costs.",
}


@pytest.mark.parametrize(("path", "said"), EXPLAINED.items(), ids=EXPLAINED)
def test_kubectl_explains(api: LocalCluster, path: str, said: str) -> None:
    assert said in " ".join(api.kubectl("explain", path).split())


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_every_field_is_explained(api: LocalCluster, definition: Any) -> None:
    schema = api.get("crd", definition.name)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(undocumented(schema["properties"]["spec"], "spec")) == []


def undocumented(schema: JSON, path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not field.get("description"):
            yield f"{path}.{name}"
        yield from undocumented(field.get("items", field), f"{path}.{name}")


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_taken_and_read_back(api: LocalCluster, name: str) -> None:
    profile = EngineProfile.from_file(load_profile_file(name))
    api.apply(profile.to_wire())
    assert EngineProfile.from_wire(api.get("eprof", name)).to_file() == profile.to_file()


def test_a_profile_with_a_negative_coefficient_is_refused(api: LocalCluster) -> None:
    wire = EngineProfile.from_file(load_profile_file(shipped_profiles()[0])).to_wire()
    wire["metadata"]["name"] = "negative"
    wire["spec"]["cost"]["tpPs"] = -1
    assert "spec.cost.tpPs" in refusal(api, wire)


MANIFESTS = Path(__file__).parents[3] / "manifests"


@pytest.mark.parametrize("sample", sorted((MANIFESTS / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_samples_are_taken(clean: LocalCluster, sample: Path) -> None:
    clean.kubectl("apply", "--server-side", "-f", "-", stdin=sample.read_text())
    (stored,) = clean.get("modelservices")["items"]
    assert ModelService.from_wire(stored).spec.pools


def test_the_shipped_profiles_are_taken_as_one_file(api: LocalCluster) -> None:
    api.kubectl(
        "apply", "--server-side", "-f", "-", stdin=(MANIFESTS / "profiles" / "shipped.yaml").read_text()
    )
    names = {found["metadata"]["name"] for found in api.get("engineprofiles")["items"]}
    assert set(shipped_profiles()) <= names


def test_the_definitions_are_taken_by_kustomize(api: LocalCluster) -> None:
    rendered = api.kubectl("kustomize", str(MANIFESTS / "crds"))
    assert rendered.count("kind: CustomResourceDefinition") == len(DEFINITIONS)
    api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered)


@pytest.mark.parametrize("folder", ["base", "overlays/laptop", "overlays/private-registry"])
def test_operator_and_routers_are_taken_without_helm(api: LocalCluster, folder: str) -> None:
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pointsman"}})
    rendered = api.kubectl("kustomize", str(MANIFESTS / folder))
    api.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=rendered)
    found = [each for each in yaml.safe_load_all(rendered) if each["kind"] == "Deployment"]
    assert {each["metadata"]["name"] for each in found} == {"pointsman-operator", "pointsman-router"}
    replicas = {each["spec"]["replicas"] for each in found}
    images = {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found}
    assert replicas == ({1} if folder == "overlays/laptop" else {2})
    assert all(image.startswith("registry.example.com/") for image in images) == ("registry" in folder)


def test_what_is_applied_without_helm_is_what_the_chart_renders() -> None:
    assert (MANIFESTS / "base" / "pointsman.yaml").read_text() == manifests.rendered(), "run `make manifests`"
