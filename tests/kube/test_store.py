"""Folding lists and events: every change once, whatever got lost, repeated or overtaken."""

import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.kube.resource import Key, Object
from pointsman.kube.store import Change, ChangeKind, Store

A, B = Key("ns", "a"), Key("ns", "b")


def obj(name: str, version: int, uid: str = "", value: Any = None, namespace: str = "ns") -> Object:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
    }
    return {"metadata": metadata, "value": version if value is None else value}


def parse(given: Object) -> Any:
    if given["value"] == "bad":
        raise ValueError("unreadable value")
    return given["value"]


def told(changes: Iterable[Change[Any]]) -> list[tuple[str, str, Any, Any]]:
    return [(change.kind.value, change.key.name, change.before, change.value) for change in changes]


@pytest.fixture
def store() -> Store[Any]:
    made: Store[Any] = Store(parse)
    made.replace([obj("a", 5), obj("b", 6)], "10")
    return made


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([obj("a", 5), obj("b", 6)], []),
        ([obj("a", 5)], [("DELETED", "b", 6, 6)]),
        ([obj("a", 5), obj("b", 12)], [("MODIFIED", "b", 6, 12)]),
        ([obj("a", 5), obj("b", 6), obj("c", 11)], [("ADDED", "c", None, 11)]),
        ([obj("a", 5), obj("b", 12, uid="new")], [("DELETED", "b", 6, 6), ("ADDED", "b", None, 12)]),
        ([], [("DELETED", "a", 5, 5), ("DELETED", "b", 6, 6)]),
    ],
    ids=["same", "gone", "other version", "new", "made anew", "all gone"],
)
def test_a_list_tells_what_no_event_did(
    store: Store[Any], objects: list[Object], expected: list[tuple[str, str, Any, Any]]
) -> None:
    assert told(store.replace(objects, "20")) == expected
    assert told(store.replace(objects, "20")) == []


def test_what_was_listed_is_no_news_as_an_event(store: Store[Any]) -> None:
    assert store.upsert(obj("a", 5)) == []


def test_an_event_older_than_what_is_held_is_ignored(store: Store[Any]) -> None:
    assert told(store.upsert(obj("a", 30))) == [("MODIFIED", "a", 5, 30)]
    assert store.upsert(obj("a", 29)) == []
    assert store.get(A) == 30


def test_the_answer_to_a_write_that_a_deletion_overtook_brings_nothing_back(store: Store[Any]) -> None:
    assert told(store.remove(obj("a", 12))) == [("DELETED", "a", 5, 5)]
    assert store.upsert(obj("a", 11)) == []
    assert A not in store


def test_the_deletion_of_a_predecessor_leaves_the_successor(store: Store[Any]) -> None:
    store.upsert(obj("a", 20, uid="successor"))
    assert store.remove(obj("a", 15)) == []
    assert store.get(A) == 20


def test_a_list_does_not_take_back_what_was_written_after_it(store: Store[Any]) -> None:
    store.upsert(obj("new", 25))
    assert store.replace([obj("a", 5), obj("b", 6)], "24") == []
    assert told(store.replace([obj("a", 5), obj("b", 6)], "26")) == [("DELETED", "new", 25, 25)]


def test_storage_that_went_back_in_time_is_believed_at_the_second_list(store: Store[Any]) -> None:
    store.replace([obj("a", 50), obj("b", 6)], "60")
    restored = [obj("a", 5)]
    assert told(store.replace(restored, "5")) == []
    assert told(store.replace(restored, "5")) == [("DELETED", "b", 6, 6), ("MODIFIED", "a", 50, 5)]


def test_a_list_of_one_namespace_says_nothing_of_others(store: Store[Any]) -> None:
    assert told(store.replace([obj("c", 11, namespace="other")], "20", "other")) == [("ADDED", "c", None, 11)]
    assert len(store) == 3
    assert told(store.replace([], "21", "other")) == [("DELETED", "c", 11, 11)]
    assert len(store) == 2


def test_the_last_readable_form_stays(store: Store[Any]) -> None:
    assert store.upsert(obj("a", 20, value="bad")) == []
    assert store.get(A) == 5
    assert store.unreadable == {A: "unreadable value"}
    assert told(store.upsert(obj("a", 21))) == [("MODIFIED", "a", 5, 21)]
    assert store.unreadable == {}


def test_what_was_never_readable_is_left_out_and_forgotten_when_it_goes(store: Store[Any]) -> None:
    assert store.upsert(obj("c", 20, value="bad")) == []
    assert Key("ns", "c") not in store
    assert Key("ns", "c") in store.unreadable
    assert store.remove(obj("c", 21, value="bad")) == []
    assert store.unreadable == {}


class World:
    """The API server's side: objects by name, each change an event."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[str, Object] = {}

    def step(self, name: str, action: str) -> tuple[str, Object] | None:
        self.version += 1
        known = self.objects.get(name)
        if action == "delete":
            if known is None:
                return None
            del self.objects[name]
            return "DELETED", obj(name, self.version, known["metadata"]["uid"])
        uid = known["metadata"]["uid"] if known is not None else str(uuid.UUID(int=self.version))
        self.objects[name] = obj(name, self.version, uid)
        return "MODIFIED" if known else "ADDED", self.objects[name]


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["put", "put", "delete"]),
        st.sampled_from(["told", "told", "lost", "answered first", "twice"]),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
def test_after_a_list_it_holds_the_truth_and_changes_add_up_to_it(
    steps: list[tuple[str, str, str, bool]],
) -> None:
    world, store = World(), Store(parse)
    mirror: dict[str, tuple[str, Any]] = {}

    def fold(changes: list[Change[Any]]) -> None:
        for change in changes:
            name = change.key.name
            if change.kind is ChangeKind.ADDED:
                assert name not in mirror
            else:
                assert mirror[name] == (change.uid, change.before)
            if change.kind is ChangeKind.DELETED:
                del mirror[name]
            else:
                mirror[name] = (change.uid, change.value)

    for name, action, fate, list_now in steps:
        event = world.step(name, action)
        if event is not None and fate != "lost":
            kind, thing = event
            for _ in range(2 if fate == "twice" else 1):
                fold(store.remove(thing) if kind == "DELETED" else store.upsert(thing))
        if list_now:
            fold(store.replace(world.objects.values(), str(world.version)))
            truth = {name: thing["value"] for name, thing in world.objects.items()}
            assert {key.name: value for key, value in store.items()} == truth
        assert {name: value for name, (_, value) in mirror.items()} == {
            key.name: value for key, value in store.items()
        }
