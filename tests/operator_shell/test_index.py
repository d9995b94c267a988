"""Children by their parents' label, as a cache's changes come."""

from typing import Any

from pointsman.controller.index import ByParent
from pointsman.controller.items import Item, Kind, concerned_by_child, concerned_by_pool
from pointsman.kube.resource import Key, Object
from pointsman.kube.store import Store


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
    store, index = Store[Object](dict), ByParent("parent")

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


def test_whom_a_change_concerns() -> None:
    labels = {"pointsman.io/instance-pool": "svc-pool", "pointsman.io/model-service": "svc"}
    obj: Object = {"metadata": {"name": "it", "namespace": "ns", "labels": labels}}
    assert list(concerned_by_child(obj)) == [Item(Kind.POOL, Key("ns", "svc-pool"))]
    assert list(concerned_by_pool(obj)) == [
        Item(Kind.POOL, Key("ns", "it")),
        Item(Kind.SERVICE, Key("ns", "svc")),
    ]
    assert list(concerned_by_child({"metadata": {"name": "x"}})) == []
