"""Children by their parents' label, as a cache's changes come."""

from typing import Any

import pytest

from pointsman.controller.index import ByParent
from pointsman.controller.items import (
    SETTLE_S,
    Item,
    Kind,
    Want,
    concerned_by_child,
    concerned_by_pool,
    label_of,
)
from pointsman.controller.queue import Urgency
from pointsman.kube.resource import Key, Object
from pointsman.kube.store import Change, ChangeKind, Store


def child(name: str, parent: str, version: int, namespace: str = "ns") -> Object:
    labels = {"parent": parent} if parent else {}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": metadata}


def names(index: ByParent, parent: str, namespace: str = "ns") -> list[str]:
    return [found["metadata"]["name"] for found in index.of(Key(namespace, parent))]


def test_children_come_move_and_go() -> None:
    store, index = Store[Object](dict), ByParent(lambda obj: label_of(obj, "parent"))

    def fold(*objects: Object) -> None:
        for obj in objects:
            for change in store.upsert(obj):
                index.take(change)

    fold(child("b", "one", 1), child("a", "one", 2), child("c", "", 3), child("d", "one", 4, "other"))
    assert names(index, "one") == ["a", "b"]
    assert names(index, "one", "other") == ["d"]
    fold(child("a", "two", 5))
    assert (names(index, "one"), names(index, "two")) == (["b"], ["a"])
    fold(child("a", "", 6))
    assert names(index, "two") == []
    for change in store.remove(child("b", "one", 7)):
        index.take(change)
    assert names(index, "one") == []
    assert set(index._children) == {Key("other", "one")}


LABELS = {"pointsman.io/instance-pool": "svc-pool", "pointsman.io/model-service": "svc"}
POOL, SERVICE = Item(Kind.POOL, Key("ns", "it")), Item(Kind.SERVICE, Key("ns", "svc"))
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, Want]] = {
    "it is new": ({}, None, Want(POOL)),
    "something else is asked for": ({"generation": 2}, {"generation": 1}, Want(POOL, Urgency.CHANGED)),
    "it is to go": ({"deletionTimestamp": "now"}, {}, Want(POOL, Urgency.CHANGED)),
    "its status is another": ({"generation": 1}, {"generation": 1}, Want(POOL, after_s=SETTLE_S)),
}


def of(**metadata: Any) -> Object:
    return {"metadata": {"name": "it", "namespace": "ns", "labels": LABELS, **metadata}}


@pytest.mark.parametrize(("now", "before", "wanted"), CHANGES.values(), ids=CHANGES)
def test_how_urgent_a_change_is(now: dict[str, Any], before: dict[str, Any] | None, wanted: Want) -> None:
    kind = ChangeKind.ADDED if before is None else ChangeKind.MODIFIED
    old = None if before is None else of(**before)
    own, *services = concerned_by_pool(Change(kind, Key("ns", "it"), "uid", of(**now), old))
    assert own == wanted
    # What is said of a ModelService's pools is gathered for a moment.
    assert set(services) == {Want(SERVICE, after_s=SETTLE_S)}


def test_a_child_concerns_its_pool() -> None:
    assert list(concerned_by_child(of())) == [Want(Item(Kind.POOL, Key("ns", "svc-pool")), after_s=SETTLE_S)]
    assert list(concerned_by_child({"metadata": {"name": "x"}})) == []


def test_a_child_whose_label_was_taken_off_is_found_by_its_owner() -> None:
    owner = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "InstancePool",
        "name": "svc-pool",
        "uid": "u",
        "controller": True,
    }
    (want,) = concerned_by_child(of(labels={}, ownerReferences=[owner]))
    assert want.item == Item(Kind.POOL, Key("ns", "svc-pool"))
    assert list(concerned_by_child(of(labels={}, ownerReferences=[{**owner, "controller": False}]))) == []
    assert list(concerned_by_child(of(labels={}, ownerReferences=[{**owner, "kind": "ReplicaSet"}]))) == []


def test_a_pool_that_changes_hands_concerns_both() -> None:
    before = of(labels={"pointsman.io/model-service": "other"})
    wants = concerned_by_pool(Change(ChangeKind.MODIFIED, Key("ns", "it"), "uid", of(), before))
    assert {want.item.key.name for want in wants} == {"it", "svc", "other"}
