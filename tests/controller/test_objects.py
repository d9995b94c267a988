"""What is built from which spec: whole objects, kept as files, and what holds for all of them.

`POINTSMAN_GOLDEN=write pytest tests/controller/test_objects.py` writes the files anew; then read the difference.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.resources import names
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.blueprint import Blueprint, blueprint
from pointsman.controller.objects.canonical import canonical, short_hash
from pointsman.controller.objects.drain import split_grace
from pointsman.controller.objects.keeping import controller_revision, disruption_budget, profile_map
from pointsman.controller.objects.merge import TemplateError
from pointsman.controller.objects.meta import LONGEST_POOL_NAME, pool_name
from pointsman.controller.objects.pod import Image
from pointsman.controller.objects.workload import instance_name, workload
from pointsman.controller.reconcile.contained import up_to_date

OWN = Image("pointsman:1", ("registry",))
GOLDEN = Path(__file__).with_name("golden")
HUB: dict[str, Any] = {
    "hub": {
        "id": "meta-llama/Llama-3.1-8B-Instruct",
        "revision": "main",
        "tokenSecret": {"name": "hub", "key": "token"},
    }
}
LLAMA: dict[str, Any] = {"name": "llama", "source": HUB, "contextTokens": 32768}
H100: dict[str, Any] = {
    "name": "h100",
    "count": 1,
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
BASE: dict[str, Any] = {
    "modelService": "llama",
    "pool": "main",
    "role": "mixed",
    "accelerator": H100,
    "model": LLAMA,
}

SPECS: dict[str, dict[str, Any]] = {
    "vllm-one-gpu": {**BASE, "engine": {"type": "vllm", "image": "vllm/vllm-openai:v0.32.0"}},
    "vllm-prefill-nixl": {
        **BASE,
        "pool": "prefill",
        "role": "prefill",
        "engine": {
            "type": "vllm",
            "image": "vllm/vllm-openai:v0.32.0",
            "connector": "nixl",
            "args": ["--gpu-memory-utilization=0.9"],
            "env": [{"name": "UCX_TLS", "value": "all"}],
        },
        "args": ["--max-num-batched-tokens=16384"],
        "topology": {"spread": ["kubernetes.io/hostname"], "together": "topology.kubernetes.io/zone"},
    },
    "vllm-mooncake-tp4-lora": {
        **BASE,
        "role": "decode",
        "accelerator": {**H100, "count": 4},
        "parallelism": {"tensor": 4},
        "model": {"name": "llama", "source": {"pvc": {"claimName": "models", "path": "llama-3.1-70b"}}},
        "engine": {
            "type": "vllm",
            "image": "vllm/vllm-openai:v0.32.0",
            "connector": "mooncake",
            "adapters": [
                {"name": "sql", "source": {"image": {"reference": "registry.example.com/sql:1"}}},
                {"name": "chat", "source": {"hub": {"id": "org/chat-lora"}}},
            ],
        },
    },
    "vllm-two-nodes": {
        **BASE,
        "accelerator": {**H100, "count": 8},
        "parallelism": {"tensor": 8, "pipeline": 2, "nodes": 2},
        "engine": {
            "type": "vllm",
            "image": "vllm/vllm-openai:v0.32.0",
            "shmSize": "32Gi",
            "gracePeriodSeconds": 600,
        },
    },
    "sglang-decode": {
        **BASE,
        "pool": "decode",
        "role": "decode",
        "accelerator": {**H100, "count": 8},
        "parallelism": {"tensor": 4, "data": 2},
        "engine": {"type": "sglang", "image": "lmsysorg/sglang:v0.5.23", "connector": "nixl"},
    },
    "simulated-with-profile": {
        **BASE,
        "accelerator": {"name": "pretend", "count": 0, "profile": "fast"},
        "model": {"name": "tiny"},
        "engine": {"type": "simulated", "connector": "sglang", "gracePeriodSeconds": 20},
    },
    "patched": {
        **BASE,
        "engine": {"type": "simulated", "connector": "nixl"},
        "template": {
            "metadata": {"annotations": {"team": "search"}, "labels": {names.INSTANCE_POOL: "stolen"}},
            "spec": {
                "priorityClassName": "serving",
                "containers": [
                    {"name": "engine", "env": [{"name": "A", "value": "1"}]},
                    {"name": "proxy", "image": "envoy"},
                ],
            },
        },
    },
}
PROFILE = EngineProfile.from_wire(
    {
        "metadata": {"name": "fast"},
        "spec": {
            "model": "tiny",
            "engine": "simulated",
            "accelerator": "pretend",
            "acceleratorClass": "h100",
            "tensorParallel": 1,
            "cost": {"t0Ps": 1, "tpPs": 1, "taPs": 0, "tbPs": 0, "tcPs": 0},
            "kvCapacityTokens": 100000,
            "kvBytesPerToken": 1000,
            "transferBytesPerS": 1e9,
            "provenance": {
                "source": "made up",
                "licence": "none",
                "method": "none",
                "pointsUsed": 1,
                "leftOut": {},
                "kvCapacity": "made up",
                "kvBytesPerToken": "made up",
                "transfer": "made up",
            },
        },
    }
)
POOL = {
    "apiVersion": names.API_VERSION,
    "kind": "InstancePool",
    "metadata": {"name": "llama-main", "namespace": "default", "uid": "0d5d63c1-6f0b-4d4d-8a53-000000000001"},
}


def built(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All children of a pool of one instance."""
    parsed = InstancePoolSpec.from_wire(spec)
    profile = PROFILE if parsed.accelerator.profile else None
    made_from = blueprint("llama-main", parsed, OWN, profile)
    name = instance_name("llama-main", POOL["metadata"]["uid"], made_from.hash, frozenset())  # type: ignore[index]
    found = [
        profile_map(POOL, parsed, made_from),
        controller_revision(POOL, parsed, made_from.data(), made_from.hash, 1, {}),
        disruption_budget(POOL, parsed),
        workload(POOL, parsed, name, made_from.hash, made_from),
    ]
    return [child for child in found if child is not None]


@pytest.mark.parametrize("name", SPECS)
def test_whole_objects(name: str) -> None:
    children = [child for child in built(SPECS[name]) if child["kind"] != "ControllerRevision"]
    text = yaml.safe_dump_all(json.loads(json.dumps(children)), sort_keys=False, width=110)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same value with the fields of every object in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(inner, rng) for key, inner in items}
    return [shuffled(inner, rng) for inner in value] if isinstance(value, list) else value


@given(st.sampled_from(sorted(SPECS)), st.randoms(use_true_random=False))
def test_the_order_of_fields_is_no_change(name: str, rng: random.Random) -> None:
    assert list(map(canonical, built(shuffled(SPECS[name], rng)))) == list(map(canonical, built(SPECS[name])))


@pytest.mark.parametrize("name", SPECS)
def test_building_is_idempotent_and_a_revision_gives_back_what_it_was_made_from(name: str) -> None:
    spec = InstancePoolSpec.from_wire(SPECS[name])
    made_from = blueprint("llama-main", spec, OWN, PROFILE if spec.accelerator.profile else None)
    kept = json.loads(json.dumps(made_from.data()))
    assert Blueprint.from_data(kept).hash == made_from.hash
    first, second = built(SPECS[name]), built(SPECS[name])
    assert first == second
    assert all(map(up_to_date, first, second))


@pytest.mark.parametrize("name", SPECS)
def test_what_every_engine_pod_has(name: str) -> None:
    spec = InstancePoolSpec.from_wire(SPECS[name])
    pod = blueprint("llama-main", spec, OWN, None).leader
    labels = pod["metadata"]["labels"]
    assert names.engine_selector().items() <= labels.items()
    assert labels[names.ROLE] == spec.role.value
    assert labels[names.INSTANCE_POOL] == "llama-main"
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["automountServiceAccountToken"] is False
    engine = pod["spec"]["containers"][0]
    assert {
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "lifecycle",
        "securityContext",
    } <= engine.keys()
    assert engine["securityContext"]["allowPrivilegeEscalation"] is False


@given(st.integers(1, 86400))
def test_the_ends_of_a_pod_fit_its_grace_time(total: int) -> None:
    grace = split_grace(total)
    assert grace.hook_s >= 0
    assert grace.engine_s >= 0
    assert grace.hook_s + grace.engine_s < total or total == 1


@given(st.sets(st.integers(0, 30)))
def test_names_of_instances_are_new_and_follow_from_what_is_taken(numbers: set[int]) -> None:
    taken: frozenset[str] = frozenset()
    for _ in range(len(numbers)):
        name = instance_name("p", "uid", "rev", taken)
        assert name == instance_name("p", "uid", "rev", taken)
        assert name not in taken
        taken |= {name}


@given(st.text("ab-", min_size=1, max_size=60), st.text("ab", max_size=30), st.text("ab", max_size=30))
def test_names_of_pools_are_fit_for_labels(service: str, member: str, shape: str) -> None:
    assert len(pool_name(service, member, shape)) <= LONGEST_POOL_NAME


OTHERS = {names.PORT: "1", names.CONNECTOR: "mooncake", names.MODEL: "other", names.TRANSFER_GROUP: "rack-7"}


@pytest.mark.parametrize(
    ("patch", "added"),
    [
        ({"metadata": None}, {}),
        ({"metadata": {"labels": None, "annotations": None}}, {}),
        (
            {"metadata": {"labels": {names.ROLE: "prefill", names.POOL: None}, "annotations": OTHERS}},
            {names.TRANSFER_GROUP: "rack-7"},
        ),
    ],
)
def test_what_a_pod_is_found_and_addressed_by_is_no_matter_of_a_template(
    patch: dict[str, Any], added: dict[str, str]
) -> None:
    spec = InstancePoolSpec.from_wire({**SPECS["patched"], "template": None})
    patched = InstancePoolSpec.from_wire({**SPECS["patched"], "template": patch})
    own = blueprint("llama-main", spec, OWN, None).leader["metadata"]
    found = blueprint("llama-main", patched, OWN, None).leader["metadata"]
    assert found["labels"] == own["labels"]
    assert found["annotations"] == {**own["annotations"], **added}


@pytest.mark.parametrize(
    "patch", [{"metadata": "it"}, {"metadata": {"labels": ["it"]}}, {"metadata": {"annotations": "it"}}]
)
def test_a_template_whose_metadata_are_none_is_refused_in_words(patch: dict[str, Any]) -> None:
    spec = InstancePoolSpec.from_wire({**SPECS["patched"], "template": patch})
    with pytest.raises(TemplateError, match=r"template\.metadata: must be an object"):
        blueprint("llama-main", spec, OWN, None)


def test_names_that_are_cut_stay_different() -> None:
    long = "x" * 60
    assert pool_name(long, "a", None) != pool_name(long, "b", None)
    assert short_hash({"a": 1, "b": 2}, 8) == short_hash({"b": 2, "a": 1}, 8)


@pytest.mark.parametrize(
    ("engine", "secrets"),
    [
        pytest.param({"type": "simulated"}, ["registry"], id="our own image"),
        pytest.param(
            {"type": "simulated", "imagePullSecrets": [{"name": "theirs"}]},
            ["theirs"],
            id="our own, their way",
        ),
        pytest.param({"type": "simulated", "image": "elsewhere:1"}, [], id="another image"),
        pytest.param({"type": "vllm", "image": "vllm/vllm-openai:v0.32.0"}, [], id="an engine's image"),
    ],
)
def test_our_own_image_is_pulled_with_our_own_secrets(engine: dict[str, Any], secrets: list[str]) -> None:
    spec = InstancePoolSpec.from_wire({**BASE, "engine": engine})
    pod = blueprint("llama-main", spec, OWN, None).leader["spec"]
    assert [secret["name"] for secret in pod.get("imagePullSecrets", [])] == secrets


def test_other_nodes_of_an_instance_wait_for_its_first_one() -> None:
    """All its pods are deleted at once, and what the first one still runs needs the others."""
    spec = InstancePoolSpec.from_wire(SPECS["vllm-two-nodes"])
    made_from = blueprint("llama-main", spec, OWN, None)
    assert made_from.worker is not None
    (container,) = made_from.worker["spec"]["containers"]
    *_, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert split_grace(spec.engine.grace_period_seconds).hook_s < float(seconds)
    assert float(seconds) < spec.engine.grace_period_seconds
