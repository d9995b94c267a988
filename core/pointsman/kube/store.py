"""What is known of the objects of one kind: folds lists and watch events into changes, without I/O.

A list is the truth at its version: what it lacks was deleted, what it has differently was modified, and the changes say
so even where no event ever did. Identity is the UID: another UID under the same name is a deletion and an addition.

Versions of one kind are decimal and grow (Kubernetes, "API Concepts", resource versions; KEP-5504), so an event or list
older than what is held is known to be. This matters where answers to our own writes are folded in as well: they run
ahead of the watch, and without the comparison the watch would take them back.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from pointsman.kube.resource import Key, Object, key_of

T = TypeVar("T")

REMEMBERED_DELETIONS = 4096


class ChangeKind(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object came, changed or went."""

    kind: ChangeKind
    key: Key
    uid: str
    value: T
    """What it is now; for a deletion, what was known last."""
    before: T | None = None
    """What it was; None for an addition."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    uid: str
    version: str
    value: T
    ahead_of_list: bool = False
    """The newest list was older than this."""


class Store(Generic[T]):
    """The objects of one kind by key, each as `parse` made it.

    `parse` raises ValueError for an object it cannot read: a new one is then left out, and of a known one the last
    readable form stays, because a version written by a newer program must not take a running instance away.
    `unreadable` says which and why.
    """

    def __init__(self, parse: Callable[[Object], T]) -> None:
        self._parse = parse
        self._held: dict[Key, _Held[T]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self.unreadable: dict[Key, str] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def get(self, key: Key) -> T | None:
        held = self._held.get(key)
        return None if held is None else held.value

    def keys(self) -> Iterator[Key]:
        return iter(self._held)

    def items(self) -> Iterator[tuple[Key, T]]:
        return ((key, held.value) for key, held in self._held.items())

    def values(self) -> Iterator[T]:
        return (held.value for held in self._held.values())

    def replace(self, objects: Iterable[Object], version: str, namespace: str = "") -> list[Change[T]]:
        """Take a whole list, of one namespace where named, as it was at `version`.

        What is held and newer than the list stays, once: that the next list is still older means that the API server's
        storage went back in time, from a backup, and then the list is right.
        """
        changes: list[Change[T]] = []
        listed: dict[Key, Object] = {key_of(obj): obj for obj in objects}
        for key, held in tuple(self._held.items()):
            if namespace and key.namespace != namespace:
                continue
            ahead = _older(version, held.version)
            if ahead and not held.ahead_of_list:
                self._held[key] = replace(held, ahead_of_list=True)
                listed.pop(key, None)
            elif key not in listed:
                changes += self._remove(key, held)
            elif ahead:
                self._held[key] = replace(held, version="")
        for key in [key for key in self.unreadable if key not in listed]:
            if not namespace or key.namespace == namespace:
                del self.unreadable[key]
        for obj in listed.values():
            changes += self.upsert(obj)
        return changes

    def upsert(self, obj: Object) -> list[Change[T]]:
        """Take one object as a watch event, or the answer to a write of our own, shows it. At most two changes."""
        key, uid, version = key_of(obj), obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
        held = self._held.get(key)
        if uid in self._deleted:
            return []
        if held is not None and (_older(version, held.version) or (uid, version) == (held.uid, held.version)):
            return []
        changes: list[Change[T]] = []
        if held is not None and held.uid != uid:
            changes = self._remove(key, held)
            held = None
        try:
            value = self._parse(obj)
        except ValueError as error:
            self.unreadable[key] = str(error)
            if held is not None:
                self._held[key] = _Held(uid, version, held.value)
            return changes
        self.unreadable.pop(key, None)
        self._held[key] = _Held(uid, version, value)
        if held is None:
            changes.append(Change(ChangeKind.ADDED, key, uid, value))
        else:
            changes.append(Change(ChangeKind.MODIFIED, key, uid, value, held.value))
        return changes

    def remove(self, obj: Object) -> list[Change[T]]:
        """Take a DELETED event."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        self._bury(uid)
        held = self._held.get(key)
        if held is None or held.uid != uid:
            if held is None:
                self.unreadable.pop(key, None)
            return []
        return self._remove(key, held)

    def _remove(self, key: Key, held: _Held[T]) -> list[Change[T]]:
        del self._held[key]
        self.unreadable.pop(key, None)
        self._bury(held.uid)
        return [Change(ChangeKind.DELETED, key, held.uid, held.value, held.value)]

    def _bury(self, uid: str) -> None:
        # A UID is never used again, so what comes with this one is late: the answer to a write, overtaken by a deletion.
        self._deleted[uid] = None
        if len(self._deleted) > REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def _older(version: str, than: str) -> bool:
    if version.isdecimal() and than.isdecimal():
        return int(version) < int(than)
    return False  # opaque after all: then the order of arrival is the order
