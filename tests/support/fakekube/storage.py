"""What the fake API server holds: objects by collection, one growing version, and the history that watches replay."""

import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fakekube.ownership import Path, leaves, merge, without

Object = dict[str, Any]
SERVER_SET = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "deletionTimestamp",
)


class RefusalError(Exception):
    """An answer that is a Status of failure."""

    def __init__(self, code: int, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.code = code
        self.reason = reason
        self.message = message

    def status(self) -> Object:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            "details": {"causes": [{"field": self.field}] if self.field else []},
        }


@dataclass(frozen=True, slots=True)
class Happened:
    version: int
    type: str
    collection: str
    object: Object


@dataclass(slots=True)
class _Stored:
    object: Object
    owned: dict[tuple[str, str], dict[Path, Any]] = field(default_factory=dict)
    """Fields by manager and subresource, as each last applied them."""


class Storage:
    """`collection` is a kind's path without the namespace, such as `/api/v1/pods`."""

    def __init__(self) -> None:
        self.version = 1000
        self.compacted = 0
        self.history: list[Happened] = []
        self.on_event: list[Callable[[Happened], None]] = []
        self._stored: dict[tuple[str, str, str], _Stored] = {}

    def get(self, collection: str, namespace: str, name: str) -> Object:
        return copy.deepcopy(self._find(collection, namespace, name).object)

    def all(self, collection: str, namespace: str = "") -> list[Object]:
        return [
            copy.deepcopy(stored.object)
            for (of, at, _), stored in sorted(self._stored.items())
            if of == collection and (not namespace or at == namespace)
        ]

    def create(self, collection: str, obj: Object) -> Object:
        metadata = obj["metadata"]
        place = (collection, metadata.get("namespace", ""), metadata["name"])
        if place in self._stored:
            raise RefusalError(409, "AlreadyExists", f"{metadata['name']} already exists")
        made = copy.deepcopy(obj)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1}
        self._stored[place] = _Stored(made)
        return self._happened("ADDED", place)

    def update(self, collection: str, obj: Object) -> Object:
        """As PUT: raises RefusalError where the version is not the live one's."""
        metadata = obj["metadata"]
        place = (collection, metadata.get("namespace", ""), metadata["name"])
        stored = self._find(*place)
        wanted = metadata.get("resourceVersion")
        if wanted and wanted != stored.object["metadata"]["resourceVersion"]:
            raise RefusalError(409, "Conflict", "the object has been modified")
        return self._put(place, stored, obj)

    def merge(self, collection: str, namespace: str, name: str, patch: Object) -> Object:
        place = (collection, namespace, name)
        stored = self._find(*place)
        uid = stored.object["metadata"]["uid"]
        if (patch.get("metadata") or {}).get("uid", uid) != uid:
            raise RefusalError(422, "Invalid", "metadata.uid: field is immutable", field="metadata.uid")
        return self._put(place, stored, _merge_patch(stored.object, patch))

    def apply(
        self, collection: str, obj: Object, manager: str, *, subresource: str = "", force: bool = True
    ) -> Object:
        metadata = obj["metadata"]
        place = (collection, metadata.get("namespace", ""), metadata["name"])
        if place not in self._stored:
            if subresource or "uid" in metadata:
                raise RefusalError(404 if subresource else 409, "NotFound", f"{metadata['name']} not found")
            self.create(collection, obj)
            self._stored[place].owned[manager, subresource] = leaves(_owned_part(obj, subresource))
            return self.get(*place)
        stored = self._stored[place]
        if metadata.get("uid", stored.object["metadata"]["uid"]) != stored.object["metadata"]["uid"]:
            raise RefusalError(409, "Conflict", "uid mismatch")
        part = _owned_part(obj, subresource)
        fields = leaves(part)
        others = {
            path: value
            for (who, _), owned in stored.owned.items()
            if who != manager
            for path, value in owned.items()
        }
        if not force and any(path in others and others[path] != value for path, value in fields.items()):
            raise RefusalError(409, "Conflict", f"fields are owned by another manager than {manager}")
        before = stored.owned.get((manager, subresource), {})
        gone = {path for path in before if path not in fields and path not in others}
        stored.owned[manager, subresource] = fields
        return self._put(place, stored, merge(without(stored.object, gone), part))

    def delete(self, collection: str, namespace: str, name: str, uid: str | None = None) -> Object:
        place = (collection, namespace, name)
        stored = self._find(*place)
        if uid is not None and uid != stored.object["metadata"]["uid"]:
            raise RefusalError(409, "Conflict", "the UID in the precondition is another")
        gone = self._happened("DELETED", place)
        del self._stored[place]
        for of, at, child in list(self._stored):
            owners = self._stored[of, at, child].object["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.delete(of, at, child)
        return gone

    def compact(self) -> None:
        """Forget the history: a watch from before now is told 410."""
        self.compacted = self.version
        self.history.clear()

    def _find(self, collection: str, namespace: str, name: str) -> _Stored:
        stored = self._stored.get((collection, namespace, name))
        if stored is None:
            raise RefusalError(404, "NotFound", f'{collection.rsplit("/", 1)[-1]} "{name}" not found')
        return stored

    def _put(self, place: tuple[str, str, str], stored: _Stored, new: Object) -> Object:
        made = copy.deepcopy(new)
        old = stored.object
        for name in SERVER_SET:
            made["metadata"].pop(name, None)
            if name in old["metadata"]:
                made["metadata"][name] = old["metadata"][name]
        if made == old:
            return copy.deepcopy(old)  # what changes nothing has no event, as in Kubernetes
        if made.get("spec") != old.get("spec"):
            made["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        stored.object = made
        return self._happened("MODIFIED", place)

    def _happened(self, kind: str, place: tuple[str, str, str]) -> Object:
        self.version += 1
        obj = self._stored[place].object
        obj["metadata"]["resourceVersion"] = str(self.version)
        event = Happened(self.version, kind, place[0], copy.deepcopy(obj))
        self.history.append(event)
        for tell in tuple(self.on_event):
            tell(event)
        return copy.deepcopy(obj)


def _owned_part(obj: Object, subresource: str) -> Object:
    if subresource:
        return {subresource: obj.get(subresource, {})}
    kept = {name: value for name, value in obj.items() if name != "status"}
    kept["metadata"] = {name: value for name, value in obj["metadata"].items() if name not in SERVER_SET}
    return kept


def _merge_patch(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(live) if isinstance(live, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge_patch(merged.get(name), value)
    return merged
