"""The chart on real nodes: installed, tested, used, upgraded, removed, beside another and after another."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import helm, serving
from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.helm import Release
from e2e.cluster.namespace import Namespace
from e2e.cluster.serving import Engine

ENGINE = Engine("engine")
MODELS = [
    {
        "name": serving.MODEL,
        "instances": [{"url": f"http://{ENGINE.name}:{serving.ENGINE_PORT}", "connector": "nixl"}],
    }
]
# Everything that a release may have made.
KINDS = (
    "deployments,statefulsets,pods,services,secrets,configmaps,serviceaccounts,roles,rolebindings,clusterroles,"
    "clusterrolebindings,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,leases"
)

DEFINITIONS = ("modelservices.pointsman.io", "instancepools.pointsman.io", "engineprofiles.pointsman.io")
NEWER_FIELD = "env"

MODEL_SERVICE = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "lasting"},
    "spec": {
        "model": {"name": "lasting"},
        "engine": {"type": "simulated", "gracePeriodSeconds": 5},
        "pools": [{"name": "all", "replicas": 1, "accelerators": [{"name": "none", "count": 0}]}],
    },
}

# Runs in the router's own pod, which has Python and may reach its Service.
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"content-type": "application/json"})
with urllib.request.urlopen(request, timeout=30) as response:
    print(json.load(response)["usage"]["completion_tokens"])
"""
REQUEST = {"model": serving.MODEL, "messages": [{"role": "user", "content": "Which way?"}], "max_tokens": 7}


@pytest.fixture
def values(image_values: dict[str, Any]) -> dict[str, Any]:
    """A release with a model of its own, small enough for the nodes of a test."""
    small = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}
    return {
        "image": image_values["image"],
        "operator": {"resources": small},
        "router": {
            "config": {"models": MODELS, "health": {"interval_s": 0.5}},
            "drain": {"delaySeconds": 2, "graceSeconds": 5},
            "resources": small,
        },
        "redis": {**image_values.get("redis", {}), "resources": small},
    }


@pytest.fixture
def home(namespace: Namespace) -> Namespace:
    """A namespace with an engine in it."""
    namespace.apply(*serving.engine(namespace.cluster.image, ENGINE))
    return namespace


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Namespace]:
    with Namespace(cluster, "second") as fresh:
        yield fresh


def answer(namespace: Namespace, release: str = "pointsman") -> int:
    """Tokens of an answer through the router's Service, asked for from a router pod."""
    url = f"http://{release}-router.{namespace.name}.svc/v1/chat/completions"
    argv = ("python", "-c", ASK, url, json.dumps(REQUEST))
    try:
        return int(namespace.kubectl("exec", f"deployment/{release}-router", "--", *argv))
    except CommandError:
        return 0


def left_of(cluster: Cluster, release: Release) -> list[str]:
    selector = f"app.kubernetes.io/instance={release.name}"
    found = cluster.get(KINDS, "--all-namespaces", f"--selector={selector}")["items"]
    return [
        f"{each['kind']}/{each['metadata']['name']}"
        for each in found
        if each["metadata"].get("namespace", release.namespace) == release.namespace
        and "deletionTimestamp" not in each["metadata"]
    ]


def pods(namespace: Namespace, component: str) -> set[str]:
    found = namespace.get("pods", f"--selector=app.kubernetes.io/component={component}")["items"]
    return {each["metadata"]["uid"] for each in found}


@pytest.mark.parametrize("major", helm.MAJORS)
def test_install_test_use_upgrade_uninstall(home: Namespace, values: dict[str, Any], major: str) -> None:
    release = Release(home.cluster, home.name, major=major)
    notes = release.install(values)
    assert f"http://pointsman-router.{home.name}.svc/v1" in notes
    said = release.test()
    assert "Succeeded" in said
    if major == "helm-4":
        assert f"the router answers; models: {serving.MODEL}" in said
        assert "takes the password and answers" in said
    eventually(lambda: answer(home) == REQUEST["max_tokens"], "no answer through the router's Service")

    secrets_before = {
        name: home.get("secret", name)["data"] for name in ("pointsman-redis", "pointsman-router-keys")
    }
    pods_before = pods(home, "router") | pods(home, "redis") | pods(home, "operator")
    values["router"]["config"]["log_level"] = "debug"
    release.upgrade(values)
    assert secrets_before == {name: home.get("secret", name)["data"] for name in secrets_before}
    # What routers read while they run restarts nothing.
    assert pods_before == pods(home, "router") | pods(home, "redis") | pods(home, "operator")

    release.uninstall()
    eventually(lambda: left_of(home.cluster, release) == [], f"left: {left_of(home.cluster, release)}")


def test_a_change_that_is_read_at_the_start_rolls_the_routers_and_costs_no_answer(
    home: Namespace, values: dict[str, Any]
) -> None:
    release = Release(home.cluster, home.name)
    release.install(values)
    eventually(lambda: answer(home) > 0, "no answer through the router's Service")
    before = pods(home, "router")
    values["router"]["config"]["prompts"] = {"block_bytes": 512}
    release.upgrade(values)
    eventually(lambda: not before & pods(home, "router"), "an old router is still there")
    assert answer(home) > 0


def test_redis_asks_for_its_password(home: Namespace, values: dict[str, Any]) -> None:
    Release(home.cluster, home.name).install(values)
    ping = ["exec", "statefulset/pointsman-redis", "--", "sh", "-c"]
    assert "NOAUTH" in home.kubectl(*ping, "redis-cli ping 2>&1")
    assert "PONG" in home.kubectl(*ping, 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping')


def test_a_failing_part_fails_the_test_hook(home: Namespace, values: dict[str, Any]) -> None:
    release = Release(home.cluster, home.name)
    values["redis"] |= {"external": {"url": "redis://:wrong@nowhere.invalid:6379"}}
    release.install(values)
    with pytest.raises(CommandError):
        release.test()


def test_two_releases_in_two_namespaces_and_one_after_another(
    home: Namespace, second: Namespace, values: dict[str, Any]
) -> None:
    cluster = home.cluster
    first, beside = Release(cluster, home.name, "one"), Release(cluster, second.name, "two")
    first.install(values)
    second.apply(*serving.engine(cluster.image, ENGINE))
    beside.install(values)
    eventually(lambda: answer(home, "one-pointsman") > 0, "the first gives no answer")
    eventually(lambda: answer(second, "two-pointsman") > 0, "the second gives no answer")
    first.uninstall()
    assert set(DEFINITIONS) <= {each["metadata"]["name"] for each in cluster.get("crds")["items"]}
    assert answer(second, "two-pointsman") > 0
    # Definitions that a release has left block neither the same name nor another.
    third = Release(cluster, home.name, "three")
    (left,) = owner_of_definitions(cluster)
    assert f"belongs to release {left}" in third.install(values)
    assert answer(home, "three-pointsman") > 0
    third.upgrade({**values, "crds": {"adopt": True}}, "--take-ownership", "--force-conflicts")
    assert owner_of_definitions(cluster) == {f"{home.name}/three"}
    third.upgrade(values)


def test_models_outlive_the_release_and_go_without_it(namespace: Namespace, values: dict[str, Any]) -> None:
    del values["router"]["config"]["models"]
    release = Release(namespace.cluster, namespace.name)
    release.install(values)
    namespace.apply(MODEL_SERVICE)
    namespace.kubectl("wait", "--for=condition=Ready", "modelservice/lasting", "--timeout=180s", timeout=190)
    release.uninstall()
    engines = "--selector=pointsman.io/model-service=lasting"
    (engine,) = namespace.get("pods", engines, "--field-selector=status.phase=Running")["items"]
    assert "deletionTimestamp" not in engine["metadata"]
    # Nothing waits for an operator that is gone.
    namespace.kubectl("delete", "modelservice", "lasting", "--timeout=60s", timeout=70)
    eventually(lambda: not namespace.get("pods", engines)["items"], "an engine is still there")


def owner_of_definitions(cluster: Cluster) -> set[str]:
    annotations = [
        each["metadata"]["annotations"]
        for each in cluster.get("crds")["items"]
        if each["spec"]["group"] == "pointsman.io"
    ]
    prefix = "meta.helm.sh/release"
    return {f"{each[f'{prefix}-namespace']}/{each[f'{prefix}-name']}" for each in annotations}


@pytest.mark.local_cluster  # it removes definitions, and so whatever there is of them
@pytest.mark.parametrize("major", helm.MAJORS)
def test_upgrade_from_an_older_chart(
    home: Namespace, values: dict[str, Any], tmp_path: Path, major: str
) -> None:
    older = older_chart(tmp_path)
    home.cluster.kubectl("delete", "crd", "--ignore-not-found", *DEFINITIONS)
    release = Release(home.cluster, home.name, major=major)
    release.install(values, chart=older)
    assert NEWER_FIELD not in pool_fields(home.cluster)
    before = home.get("secret", "pointsman-redis")["data"]
    release.upgrade(values)
    assert home.get("secret", "pointsman-redis")["data"] == before
    assert "Succeeded" in release.test()
    assert NEWER_FIELD in pool_fields(home.cluster)
    labels = home.get("deployment", "pointsman-router")["metadata"]["labels"]
    assert labels["helm.sh/chart"] == f"pointsman-{version_of(helm.CHART)}"


def older_chart(folder: Path) -> Path:
    """The chart as it might have been: a lower version, without one field of its values and of its definitions."""
    older = folder / "pointsman"
    shutil.copytree(helm.CHART, older)
    (older / "Chart.yaml").write_text(
        (older / "Chart.yaml").read_text().replace(f"version: {version_of(helm.CHART)}", "version: 0.0.1", 1)
    )
    values_file = older / "values.yaml"
    assert "  topologySpread: true" in values_file.read_text()
    values_file.write_text(
        values_file.read_text().replace("  topologySpread: true", "  # topologySpread: later")
    )
    definition_file = older / "files" / "crds" / "instancepools.yaml"
    definition = yaml.safe_load(definition_file.read_text())
    del spec_fields(definition)[NEWER_FIELD]
    definition_file.write_text(yaml.safe_dump(definition, sort_keys=False))
    return older


def pool_fields(cluster: Cluster) -> set[str]:
    return set(spec_fields(cluster.get("crd", "instancepools.pointsman.io")))


def spec_fields(definition: dict[str, Any]) -> dict[str, Any]:
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return fields


def version_of(chart: Path) -> str:
    return str(yaml.safe_load((chart / "Chart.yaml").read_text())["version"])
