"""From ModelServices and pods to what a router serves."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.connector import Connector
from pointsman.api.resources.model_service import ModelService
from pointsman.api.router_config import RouterConfig
from pointsman.core.instances import Role
from pointsman.router.discovery.found import Found, find, merged
from pointsman.router.discovery.pods import EnginePod, read_pod
from pointsman.router.discovery.watch import read_service

EMPTY = RouterConfig.model_validate({"kubernetes": {}})
NOTHING = Found()


def service(name: str = "chat", created: str = "2026-01-01T00:00:00Z", **changes: Any) -> ModelService:
    spec: dict[str, Any] = {
        "model": {"name": "llama", "aliases": ["gpt"], "contextTokens": 4096},
        "engine": {"type": "simulated", "adapters": [{"name": "sql"}, {"name": "law"}]},
        "pools": [
            {"name": "main", "replicas": 1, "maxRunning": 32, "accelerators": [{"name": "cpu", "count": 0}]}
        ],
        "slo": {"ttftMs": 500, "classes": [{"name": "batch", "priority": -5, "ttftMs": 60000}]},
        "routing": {"policy": {"name": "least_requests"}, "localPrefillTokens": 64},
        **changes,
    }
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "generation": 2,
        "creationTimestamp": created,
    }
    return read_service({"metadata": metadata, "spec": spec, "status": {"ready": "1/1"}})


def pod_object(name: str = "chat-main-1", ip: str = "10.0.0.1", **changes: Any) -> dict[str, Any]:
    """`changes` are merged into labels, annotations, metadata or status, by their names."""
    made: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "labels": {
                "app.kubernetes.io/managed-by": "pointsman",
                "pointsman.io/model-service": "chat",
                "pointsman.io/pool": "main",
                "pointsman.io/role": "mixed",
            },
            "annotations": {"pointsman.io/port": "8000", "pointsman.io/connector": "none"},
        },
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    for part in ("labels", "annotations"):
        made["metadata"][part].update(changes.get(part, {}))
    made["metadata"].update(changes.get("metadata", {}))
    made["status"].update(changes.get("status", {}))
    return made


def pod(name: str = "chat-main-1", ip: str = "10.0.0.1", **changes: Any) -> EnginePod:
    return read_pod(pod_object(name, ip, **changes))


def found(*things: ModelService | EnginePod, file: RouterConfig = EMPTY, before: Found = NOTHING) -> Found:
    services = [thing for thing in things if isinstance(thing, ModelService)]
    return find(file, services, [thing for thing in things if isinstance(thing, EnginePod)], before)


def test_a_model_service_and_its_pod_become_a_model_and_its_instance() -> None:
    result = found(service(), pod())
    (model,) = result.models
    assert (model.name, model.aliases, model.context_tokens) == ("llama", ("gpt",), 4096)
    assert (model.slo.ttft_ms, model.slo.tpot_ms) == (500, None)
    assert {name: limits.ttft_ms for name, limits in model.slo_classes.items()} == {"batch": 60000}
    assert (model.policy.name, model.local_prefill_tokens) == ("least_requests", 64)
    (instance,) = model.instances
    assert (instance.url, instance.role, instance.pool) == ("http://10.0.0.1:8000", Role.MIXED, "main")
    assert instance.adapters == ("sql", "law")
    assert instance.max_running == 32
    assert result.pods == {"http://10.0.0.1:8000": "uid-chat-main-1"}
    assert result.objectives == {"batch": -5}
    assert result.generations == {"team/chat": 2}
    assert result.refused == {}


def test_without_pods_it_is_served_all_the_same() -> None:
    result = found(service())
    assert [model.instances for model in result.models] == [()]
    assert result.generations == {"team/chat": 2}


UNUSED: dict[str, dict[str, Any]] = {
    "terminating": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    "not ready": {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    "without conditions": {"status": {"conditions": []}},
    "without an address": {"status": {"podIP": ""}},
    "of another ModelService": {"labels": {"pointsman.io/model-service": "other"}},
    "of a namesake elsewhere": {"metadata": {"namespace": "elsewhere"}},
    "with the model's former name": {"annotations": {"pointsman.io/model": "llama-2"}},
}


@pytest.mark.parametrize("changes", UNUSED.values(), ids=UNUSED)
def test_pods_that_are_not_used(changes: dict[str, Any]) -> None:
    result = found(service(), pod(**changes))
    assert [model.instances for model in result.models] == [()]
    assert result.pods == {}


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no ModelService": (
        {"labels": {"pointsman.io/model-service": ""}},
        "has no label pointsman.io/model-service",
    ),
    "unknown role": ({"labels": {"pointsman.io/role": "idle"}}, "no role is called 'idle'"),
    "bad port": ({"annotations": {"pointsman.io/port": "http"}}, "no port is called 'http'"),
    "port beyond": ({"annotations": {"pointsman.io/port": "70000"}}, "no port is called '70000'"),
    "bad bootstrap port": (
        {"annotations": {"pointsman.io/bootstrap-port": "-1"}},
        "pointsman.io/bootstrap-port",
    ),
}


@pytest.mark.parametrize(("changes", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_pods_that_cannot_be_read(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pod(pod_object(**changes))


def test_a_pod_that_no_router_can_speak_to_is_named_and_the_others_serve() -> None:
    strange = pod("strange", "10.0.0.2", annotations={"pointsman.io/connector": "telepathy"})
    alone = pod("alone", "10.0.0.3", labels={"pointsman.io/role": "prefill"})
    result = found(service(), strange, alone, pod())
    assert [instance.url for instance in result.models[0].instances] == ["http://10.0.0.1:8000"]
    assert set(result.refused) == {"team/strange", "team/alone"}
    assert "connector is required for role 'prefill'" in result.refused["team/alone"]


def test_what_annotations_say_reaches_the_connector() -> None:
    annotations = {
        "pointsman.io/connector": "mooncake",
        "pointsman.io/bootstrap-port": "8999",
        "pointsman.io/transfer-group": "rack-1",
        "pointsman.io/port": "9000",
    }
    result = found(
        service(), pod(ip="fd00::1", labels={"pointsman.io/role": "prefill"}, annotations=annotations)
    )
    (instance,) = result.models[0].instances
    assert instance.url == "http://[fd00::1]:9000"
    assert (instance.role, instance.connector) == (Role.PREFILL, Connector.MOONCAKE)
    assert (instance.bootstrap_port, instance.capabilities.transfer_group) == (8999, "rack-1")


ADAPTERS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "not said": (None, ("sql", "law")),
    "one is not there yet": ("sql", ("sql",)),
    "one is no longer wanted": ("sql,law,old", ("sql", "law")),
    "none": ("", ()),
}


@pytest.mark.parametrize(("said", "wanted"), ADAPTERS.values(), ids=ADAPTERS)
def test_adapters_are_those_that_service_and_pod_agree_on(said: str | None, wanted: tuple[str, ...]) -> None:
    annotations = {} if said is None else {"pointsman.io/adapters": said}
    (instance,) = found(service(), pod(annotations=annotations)).models[0].instances
    assert instance.adapters == wanted


CPU = [{"name": "cpu", "count": 0}]
ASLEEP = {"autoscaling": {"minReplicas": 0, "maxReplicas": 4}, "accelerators": CPU}
AWAKE = {"replicas": 1, "accelerators": CPU}
SLEEPERS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "a number": ([{"name": "a", **AWAKE}], set()),
    "none at all": ([{"name": "a", **AWAKE, "replicas": 0}], {"llama"}),
    "as few as none": ([{"name": "a", **ASLEEP}], {"llama"}),
    "one of two pools must not": ([{"name": "a", **ASLEEP}, {"name": "b", **AWAKE}], set()),
    "a prefill pool answers nobody": (
        [{"name": "a", **ASLEEP}, {"name": "b", "role": "prefill", **AWAKE}],
        {"llama"},
    ),
}


@pytest.mark.parametrize(("pools", "sleepers"), SLEEPERS.values(), ids=SLEEPERS)
def test_which_models_may_be_without_an_instance(pools: list[dict[str, Any]], sleepers: set[str]) -> None:
    assert found(service(pools=pools)).may_sleep == sleepers


def test_the_older_one_keeps_a_name_whatever_the_order() -> None:
    older = service("zebra", created="2025-01-01T00:00:00Z")
    newer = service("ant", model={"name": "other", "aliases": ["llama"]})
    for order in ((older, newer), (newer, older)):
        result = found(*order)
        assert [model.name for model in result.models] == ["llama"]
        assert result.generations == {"team/zebra": 2}
        assert result.refused == {"team/ant": "spec.model: the name 'llama' is taken by team/zebra"}


def test_adapters_names_count_without_pods_too() -> None:
    newer = service("ant", created="2026-02-01T00:00:00Z", model={"name": "sql"})
    assert found(service(), newer).refused == {"team/ant": "spec.model: the name 'sql' is taken by team/chat"}


def test_the_files_names_come_first() -> None:
    file = RouterConfig.model_validate(
        {"kubernetes": {}, "models": [{"name": "gpt", "instances": [{"url": "http://10.0.9.9:8000"}]}]}
    )
    result = found(service(), file=file)
    assert result.models == ()
    assert "taken by the router's own configuration" in result.refused["team/chat"]
    other = service(model={"name": "other"})
    both = merged(file, found(other, file=file))
    assert [model.name for model in both.models] == ["gpt", "other"]


def test_the_file_has_the_last_word_on_objectives() -> None:
    file = RouterConfig.model_validate({"kubernetes": {}, "objectives": {"batch": 1, "urgent": 9}})
    assert merged(file, found(service(), file=file)).objectives == {"batch": 1, "urgent": 9}


def test_a_slip_leaves_what_was_in_force() -> None:
    before = found(service(), pod())
    wrong = service(routing={"policy": {"name": "no_such_policy"}})
    result = found(wrong, pod(), before=before)
    assert result.models == before.models
    assert "no_such_policy" in result.refused["team/chat"]
    assert found(wrong, pod()).models == ()


def test_what_was_in_force_is_not_kept_for_another_of_the_name() -> None:
    before = found(service())
    wrong = service(routing={"policy": {"name": "no_such_policy"}})
    reborn = wrong.model_copy(update={"metadata": wrong.metadata.model_copy(update={"uid": "another"})})
    assert found(reborn, before=before).models == ()


def test_a_name_twice_is_refused() -> None:
    result = found(service(model={"name": "llama", "aliases": ["sql"]}))
    assert result.refused == {"team/chat": "spec.model: the name 'sql' is there twice"}


def test_a_status_that_changes_changes_nothing() -> None:
    raw = {
        "metadata": {
            "name": "chat",
            "namespace": "team",
            "uid": "u",
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": copy.deepcopy(service().spec.to_wire()),
        "status": {"ready": "0/1"},
    }
    later = {**raw, "metadata": {**raw["metadata"], "resourceVersion": "2"}, "status": {"ready": "1/1"}}
    assert read_service(raw) == read_service(later)


THINGS: list[ModelService | EnginePod] = [
    service(),
    service("ant", created="2026-03-01T00:00:00Z", model={"name": "other", "aliases": ["llama"]}),
    service("bee", created="2026-02-01T00:00:00Z", model={"name": "mistral"}, engine={"type": "simulated"}),
    pod(),
    pod("chat-main-2", "10.0.0.2", labels={"pointsman.io/role": "decode"}),
    pod("bee-1", "10.0.0.3", labels={"pointsman.io/model-service": "bee"}),
    pod("late", "10.0.0.4", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    pod("strange", "10.0.0.5", annotations={"pointsman.io/connector": "telepathy"}),
]


@given(st.permutations(THINGS), st.lists(st.sampled_from(THINGS), unique_by=id))
def test_order_and_history_of_what_is_right_do_not_count(
    order: list[ModelService | EnginePod], earlier: list[ModelService | EnginePod]
) -> None:
    """Whatever was known before, and in whatever order it is told: the same cluster is served the same."""
    assert found(*order, before=found(*earlier)) == found(*THINGS)
