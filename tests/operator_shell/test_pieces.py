"""Logs, roles, settings of kopf, and the command's words."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from pointsman.cli.controller import command
from pointsman.controller import roles
from pointsman.controller.frame import Limits, production_settings
from pointsman.controller.logs import JsonFormatter
from pointsman.controller.objects.meta import owner
from pointsman.controller.routers import router_pod
from pointsman.kube.resource import INSTANCE_POOLS, LEASES, MODEL_SERVICES, PODS, Resource


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tests.operator_shell")
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_a_record_is_one_line_of_json(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = logged
    logger.warning("two\nlines of %s", "it", extra={"pool": "a"})
    try:
        sys.intern(1)  # type: ignore[call-overload]
    except TypeError:
        logger.exception("broken")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["message"], first["pool"]) == ("warning", "two\nlines of it", "a")
    assert first["time"].endswith("+00:00")
    assert "TypeError" in second["error"]


def test_roles_as_kubernetes_has_them() -> None:
    assert roles.Rule(LEASES, ("get", "update"), names=("it",)).wire() == {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "update"],
        "resourceNames": ["it"],
    }
    assert roles.role("r", "ns", (roles.Rule(PODS, ("list",)),))["kind"] == "Role"
    assert roles.role("r", "", (roles.Rule(PODS, ("list",)),))["kind"] == "ClusterRole"


def test_no_right_reaches_secrets_or_whole_groups() -> None:
    rules = (
        *roles.in_watched_namespaces(),
        *roles.for_engine_policies(),
        *roles.on_the_cluster(),
        *roles.at_home("it"),
    )
    assert "secrets" not in {rule.resource.plural for rule in rules}
    assert not [rule for rule in rules if "*" in rule.verbs or "*" in rule.resource.plural]


@pytest.mark.parametrize("resource", [MODEL_SERVICES, INSTANCE_POOLS])
def test_children_may_hold_up_their_owners_deletion(resource: Resource) -> None:
    """OwnerReferencesPermissionEnforcement refuses children with `blockOwnerDeletion` to whom lacks this."""
    parent = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": "it", "uid": "u"},
    }
    assert owner(parent)["blockOwnerDeletion"]
    assert roles.Rule(resource, ("update",), "finalizers") in roles.in_watched_namespaces()


def test_kopf_keeps_nothing_of_its_own_and_asks_for_no_more_than_it_needs() -> None:
    settings = production_settings(Limits())
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.persistence.finalizer == "controller.pointsman.io/finalizer"
    assert settings.queueing.worker_limit == 16
    assert settings.watching.server_timeout == 240


@pytest.mark.parametrize(
    ("pod", "url"),
    [
        ({}, ""),
        ({"status": {"podIP": "10.0.0.7"}}, "http://10.0.0.7:9000/ready"),
        ({"status": {"podIP": "fd00::7"}}, "http://[fd00::7]:9000/ready"),
        ({"status": {"podIP": "10.0.0.7"}, "metadata": {"name": "r", "deletionTimestamp": "now"}}, ""),
        ({"status": {"podIP": "10.0.0.7"}, "spec": {"containers": [{}]}}, ""),
    ],
    ids=["no address yet", "there", "version 6", "ending", "no admin port"],
)
def test_where_a_router_can_be_asked(pod: dict[str, object], url: str) -> None:
    ports = [{"name": "http", "containerPort": 8000}, {"name": "admin", "containerPort": 9000}]
    whole = {"metadata": {"name": "r"}, "spec": {"containers": [{"ports": ports}]}} | pod
    assert router_pod(whole).url == url


@pytest.mark.parametrize("arguments", [[], ["--namespace=a", "--all-namespaces"]])
def test_what_to_watch_must_be_said(arguments: list[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "--all-namespaces" in result.output


def test_without_a_cluster_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    result = CliRunner().invoke(command, ["--all-namespaces"])
    assert result.exit_code == 1
    assert "set KUBECONFIG" in result.output
