"""What the chart renders, over a matrix of values: valid for Kubernetes, taken by an API server, and as it was."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from e2e.cluster import binaries, commands, helm, module_files, plugin, schemas
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.rights import ROUTER
from e2e.cluster.tests.chart import golden
from e2e.cluster.tests.chart.cases import CASES, EVERYTHING, GATEWAY, MODELS, MONITORING
from pointsman.api.resources import names
from pointsman.api.router_config import RouterConfig
from pointsman.controller import roles
from pointsman.controller.objects.meta import WORKER_COMPONENT

ROUTE = "gateway.networking.k8s.io_httproutes.yaml"

# Their definitions are in no Go module that can be had, so nothing here can check them.
UNCHECKED = {"PodMonitor", "PrometheusRule"}

BAD_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"router": {"replica": 3}}, "replica"),
    "a word for a number": ({"operator": {"replicas": "two"}}, "replicas"),
    "pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "digest": ({"image": {"digest": "latest"}}, "digest"),
    "namespace": ({"watch": {"namespaces": ["Team_A"]}}, "namespaces"),
    "redis URL": ({"redis": {"external": {"url": "redis.example:6379"}}}, "url"),
    "absolute path": ({"router": {"files": [{"secret": "s", "key": "k", "path": "/etc/passwd"}]}}, "path"),
    "root": ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
    "a user's name": ({"podSecurity": {"runAsUser": "nobody"}}, "runAsUser"),
    "gateway that is not there": (
        {"router": {"httpRoute": {"enabled": True}}},
        "gateway.networking.k8s.io/v1",
    ),
}


@pytest.fixture(autouse=True)
def possible_here() -> None:
    plugin.skip_where_impossible(nodes=False)


@functools.cache
def rendering(case: str, major: str = "helm-4") -> str:
    values, api_versions = CASES[case]
    return helm.render(values, major=major, api_versions=api_versions)


def objects(case: str) -> list[dict[str, Any]]:
    return helm.objects_of(rendering(case))


def named(case: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        each for each in objects(case) if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    )
    return found


@pytest.fixture(scope="module")
def schema_folder(tmp_path_factory: pytest.TempPathFactory, kubernetes: str) -> Path:
    """Schemas of every kind that any rendering holds."""
    source = module_files.folder_of_tool(f"kubernetes-{kubernetes}") / "api" / "openapi-spec" / "swagger.json"
    kinds = {(each["apiVersion"], each["kind"]) for case in CASES for each in objects(case)}
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(folder, schemas.of_kubernetes(json.loads(source.read_text()), kinds))
    schemas.write(folder, schemas.of_definition(gateway_route()))
    return folder


def gateway_route() -> dict[str, Any]:
    folder = module_files.folder_of(module_files.GATEWAY_API) / "config" / "crd" / "standard"
    route: dict[str, Any] = yaml.safe_load((folder / ROUTE).read_text())
    return route


@pytest.mark.parametrize("major", helm.MAJORS)
def test_lint_has_nothing_to_say(major: str) -> None:
    assert (
        "0 chart(s) failed" in commands.run([helm.command_of(major), "lint", "--strict", helm.CHART]).stdout
    )


@pytest.mark.parametrize("case", CASES)
def test_both_majors_of_helm_render_the_same(case: str) -> None:
    def by_name(rendered: str) -> dict[tuple[str, str, str], Any]:
        found = helm.objects_of(rendered)
        return {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
            for each in found
        }

    assert by_name(rendering(case, "helm-3")) == by_name(rendering(case, "helm-4"))


@pytest.mark.parametrize("case", CASES)
def test_every_object_fits_its_schema(case: str, schema_folder: Path) -> None:
    check(rendering(case), schema_folder)


def check(rendered: str, schema_folder: Path) -> None:
    location = f"{schema_folder}/{schemas.SCHEMA_LOCATION}"
    commands.run(
        [
            binaries.build("kubeconform") / "kubeconform",
            "-strict",
            "-schema-location",
            location,
            "-skip",
            ",".join(sorted(UNCHECKED)),
        ],
        stdin=rendered,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("automountServiceAccountToken: false", "automountServiceAccountTokens: false"),
        ("replicas: 2", "replicas: two"),
        ("maxSurge: 1", "maxSurge: [1]"),
    ],
)
def test_the_schemas_find_what_is_wrong(before: str, after: str, schema_folder: Path) -> None:
    assert before in rendering("default")
    with pytest.raises(CommandError):
        check(rendering("default").replace(before, after), schema_folder)


@pytest.fixture(scope="module")
def ready(control_plane: LocalCluster) -> LocalCluster:
    """A control plane with the namespaces and the definitions that renderings name."""
    for name in ("home", "team-a", "team-b"):
        control_plane.kubectl("create", "namespace", name)
    control_plane.apply(gateway_route())
    eventually(
        lambda: "HTTPRoute" in control_plane.kubectl("api-resources", "--cached=false"), "there are no routes"
    )
    return control_plane


@pytest.mark.parametrize("case", CASES)
def test_an_api_server_takes_every_object(case: str, ready: LocalCluster) -> None:
    checked = [each for each in objects(case) if each["kind"] not in UNCHECKED]
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": checked})
    said = ready.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=items)
    assert said.count("(server dry run)") == len(checked)


@pytest.mark.parametrize("case", golden.NAMES)
def test_the_rendering_is_as_it_was(case: str) -> None:
    assert golden.rendered(case) == (golden.FOLDER / f"{case}.yaml").read_text()


@pytest.mark.parametrize("problem", BAD_VALUES)
def test_bad_values_are_refused_by_name(problem: str) -> None:
    values, word = BAD_VALUES[problem]
    with pytest.raises(CommandError, match=word):
        helm.render(values)


@pytest.mark.parametrize("case", CASES)
def test_no_pod_may_do_more_than_it_must(case: str) -> None:
    pods = [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects(case)
        if each["kind"] in {"Pod", "Deployment", "StatefulSet"}
    ]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= container["resources"].keys()


@pytest.mark.parametrize("case", CASES)
def test_only_operator_and_discovering_routers_get_a_token(case: str) -> None:
    with_token = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]
        for each in objects(case)
        if each["kind"] in {"Deployment", "StatefulSet"}
        and each["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token == ({"operator"} if case == "models-of-its-own" else {"operator", "router"})


def test_a_namespaced_install_reaches_into_its_namespaces_only() -> None:
    rules = {
        each["metadata"].get("namespace", "")
        for each in objects("several-namespaces")
        if each["kind"] in {"Role", "ClusterRole"}
    }
    assert rules == {"", "home", "team-a", "team-b"}
    (everywhere,) = (each for each in objects("several-namespaces") if each["kind"] == "ClusterRole")
    assert [rule["resources"] for rule in everywhere["rules"]] == [["engineprofiles"]]


@pytest.mark.parametrize(
    ("kind", "name", "rules"),
    [
        ("Role", "operator", roles.in_watched_namespaces()),
        ("Role", "operator-home", roles.at_home("demo-pointsman-operator")),
        ("ClusterRole", "operator", roles.on_the_cluster()),
        ("Role", "router", ROUTER),
    ],
)
def test_each_may_do_what_it_is_said_to_do(kind: str, name: str, rules: tuple[roles.Rule, ...]) -> None:
    """Another test holds what is said against what they do, by the API server's audit log."""
    is_granted("default", kind, name, rules)


def test_an_operator_of_the_whole_cluster_may_write_policies_too() -> None:
    everywhere = (
        *roles.in_watched_namespaces(),
        *roles.for_engine_policies(),
        *roles.on_the_cluster(),
    )
    is_granted("cluster-wide", "ClusterRole", "operator", everywhere)
    without = helm.objects_of(
        helm.render({"watch": {"clusterWide": True}, "networkPolicy": {"enabled": False}})
    )
    assert "networkpolicies" not in {
        resource
        for each in without
        if each["kind"] == "ClusterRole"
        for rule in each["rules"]
        for resource in rule["resources"]
    }


def is_granted(case: str, kind: str, name: str, rules: tuple[roles.Rule, ...]) -> None:
    granted = named(case, kind, f"-{name}")["rules"]
    assert sorted(granted, key=json.dumps) == sorted((rule.wire() for rule in rules), key=json.dumps)


@pytest.mark.parametrize("case", CASES)
def test_no_role_says_everything(case: str) -> None:
    rules = [
        rule for each in objects(case) if each["kind"] in {"Role", "ClusterRole"} for rule in each["rules"]
    ]
    assert rules
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]


def test_nodes_of_one_instance_reach_each_other() -> None:
    """Workers of an instance that spans nodes call their leader, which the policy would otherwise keep them from."""
    policy = named("default", "NetworkPolicy", "-engines")["spec"]
    (own, _) = policy["ingress"][0]["from"]
    assert own == {"podSelector": policy["podSelector"]}
    assert policy["podSelector"]["matchLabels"] == {names.MANAGED_BY: names.MANAGER}
    (expression,) = policy["podSelector"]["matchExpressions"]
    assert (expression["key"], expression["operator"]) == (names.COMPONENT, "In")
    assert set(expression["values"]) == {names.ENGINE_COMPONENT, WORKER_COMPONENT}


def test_where_all_namespaces_are_watched_the_operator_is_told_who_may_reach_engines() -> None:
    """The same peers that the chart's own policy names, besides engines."""
    names_of_policies = {
        each["metadata"]["name"] for each in objects("cluster-wide") if each["kind"] == "NetworkPolicy"
    }
    assert not [name for name in names_of_policies if name.endswith("-engines")]
    metrics = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    told = peers({"watch": {"clusterWide": True}, "networkPolicy": {"metricsFrom": metrics}})
    (_, routers) = named("default", "NetworkPolicy", "-engines")["spec"]["ingress"][0]["from"]
    assert told == [routers, *metrics]
    assert peers({}) == []
    assert peers({"watch": {"clusterWide": True}, "networkPolicy": {"enabled": False}}) == []


def peers(values: dict[str, Any]) -> list[Any]:
    """What the operator is told with these values."""
    flag = "--engine-peer="
    return [
        json.loads(each.removeprefix(flag)) for each in operator_arguments(values) if each.startswith(flag)
    ]


def operator_arguments(values: dict[str, Any]) -> list[str]:
    (operator,) = (
        each
        for each in helm.objects_of(helm.render(values))
        if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-operator")
    )
    arguments: list[str] = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def test_engines_that_run_our_image_are_given_its_secrets() -> None:
    arguments = operator_arguments({"imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}]})
    assert {"--own-pull-secret=registry", "--own-pull-secret=mirror"} <= set(arguments)


@pytest.mark.parametrize(("case", "expected"), [("default", 65532), ("users-of-the-cluster's-choice", None)])
def test_pods_run_as_whom_they_are_told_or_as_whom_the_cluster_chooses(
    case: str, expected: int | None
) -> None:
    pods = [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects(case)
        if each["kind"] in {"Pod", "Deployment", "StatefulSet"}
    ]
    for pod in pods:
        context = pod["securityContext"]
        assert {context.get(name) for name in ("runAsUser", "runAsGroup", "fsGroup")} == {expected}


def test_optional_apis_are_used_where_they_are() -> None:
    kinds = {each["kind"] for each in objects("everything")}
    assert {"PodMonitor", "PrometheusRule", "HTTPRoute"} <= kinds
    assert not {"PodMonitor", "PrometheusRule", "HTTPRoute"} & {each["kind"] for each in objects("default")}
    with_monitoring = helm.objects_of(helm.render({}, api_versions=[MONITORING]))
    assert {each["kind"] for each in with_monitoring} >= UNCHECKED
    without_route = helm.objects_of(helm.render({}, api_versions=[GATEWAY]))
    assert "HTTPRoute" not in {each["kind"] for each in without_route}


def test_two_releases_share_no_name() -> None:
    def names(release: str, namespace: str) -> set[tuple[str, str, str]]:
        rendered = helm.objects_of(
            helm.render(
                {"crds": {"install": False}, "watch": {"namespaces": ["team-a"]}},
                release=release,
                namespace=namespace,
            )
        )
        return {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
            for each in rendered
        }

    assert not names("one", "home") & names("two", "home")
    assert not names("one", "home") & names("one", "team-b")


def test_the_longest_names_still_fit() -> None:
    rendered = helm.objects_of(helm.render({"nameOverride": "n" * 40}, release="r" * 53))
    for each in rendered:
        if each["kind"] not in {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}:
            assert len(each["metadata"]["name"]) <= 63
        for value in each["metadata"].get("labels", {}).values():
            assert len(value) <= 63


def test_definitions_are_kept_and_can_be_left_out() -> None:
    definitions = [each for each in objects("default") if each["kind"] == "CustomResourceDefinition"]
    assert {each["spec"]["names"]["kind"] for each in definitions} == {
        "ModelService",
        "InstancePool",
        "EngineProfile",
    }
    for each in definitions:
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "CustomResourceDefinition" not in {each["kind"] for each in objects("bare")}


def router_config(case: str) -> Any:
    return yaml.safe_load(named(case, "Secret", "-router")["stringData"]["router.yaml"])


def test_routers_look_where_the_operator_does() -> None:
    assert router_config("default")["kubernetes"] == {"namespaces": ["home"]}
    assert router_config("several-namespaces")["kubernetes"] == {"namespaces": ["team-a", "team-b"]}
    assert router_config("cluster-wide")["kubernetes"] == {"namespaces": []}
    assert "kubernetes" not in router_config("models-of-its-own")
    assert router_config("models-of-its-own")["models"] == MODELS


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_router_takes_what_is_rendered_for_it(case: str) -> None:
    """But for the files it names, which are there in its pod."""
    try:
        RouterConfig.model_validate(router_config(case))
    except ValidationError as error:
        faults = [fault for fault in error.errors() if fault["type"] != "no_file"]
        assert not faults


def test_what_the_user_configures_wins_and_the_rest_stays() -> None:
    config = router_config("everything")
    assert config["queue"] == EVERYTHING["router"]["config"]["queue"]
    assert config["listen"]["tls"] == {
        "certificate": "/etc/pointsman/tls/tls.crt",
        "key": "/etc/pointsman/tls/tls.key",
    }


def test_grace_covers_the_whole_drain() -> None:
    pod = named("default", "Deployment", "-router")["spec"]["template"]["spec"]
    config = router_config("default")
    assert pod["terminationGracePeriodSeconds"] > config["drain_delay_s"] + config["drain_grace_s"]


@pytest.mark.parametrize(
    ("case", "url"),
    [
        ("default", "redis://:GENERATED@demo-pointsman-redis.home.svc:6379/0"),
        ("external-redis", "rediss://user:pass@redis.example:6380/1"),
    ],
)
def test_the_secret_says_where_redis_is(case: str, url: str) -> None:
    assert named(case, "Secret", "-redis")["stringData"]["url"] == url


@pytest.mark.parametrize("case", ["external-redis", "external-redis-in-a-secret", "no-redis"])
def test_a_redis_elsewhere_needs_none_of_ours(case: str) -> None:
    assert "StatefulSet" not in {each["kind"] for each in objects(case)}


@pytest.mark.parametrize(
    ("tls", "port", "address"),
    [
        pytest.param("", 80, "http://demo-pointsman-router.home.svc/v1", id="plain"),
        pytest.param("", 8000, "http://demo-pointsman-router.home.svc:8000/v1", id="another port"),
        pytest.param("crt", 80, "https://demo-pointsman-router.home.svc:80/v1", id="TLS at the plain port"),
        pytest.param("crt", 443, "https://demo-pointsman-router.home.svc/v1", id="TLS"),
    ],
)
def test_the_notes_name_the_address_that_answers(tls: str, port: int, address: str) -> None:
    router = {"tls": {"secretName": tls}, "service": {"port": port}}
    assert f"  {address}\n" in helm.notes({"router": router})
