"""What can be reconciled, and which of it a change concerns, how soon and how urgently."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pointsman.api.resources import names
from pointsman.controller.queue import Urgency
from pointsman.kube.resource import Key, Object
from pointsman.kube.store import Change, ChangeKind

SETTLE_S = 0.2
"""What becomes of an object seldom comes alone: what is told of it within so long is one pass, and one status."""


class Kind(StrEnum):
    SERVICE = "ModelService"
    POOL = "InstancePool"


class Item(NamedTuple):
    """One object to be reconciled."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind.value} {self.key}"


def service_of(obj: Object) -> str:
    """The ModelService of an InstancePool; empty for none."""
    return label_of(obj, names.MODEL_SERVICE)


def label_of(obj: Object, label: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(label) or "")


def pool_of(obj: Object) -> str:
    """The InstancePool of a workload, pod, revision, ConfigMap or disruption budget: whose label it has, or else who owns it,
    so that one whose label was taken off is found and gets it again. Empty for none.
    """
    if name := label_of(obj, names.INSTANCE_POOL):
        return name
    for owner in obj["metadata"].get("ownerReferences") or ():
        if (
            owner.get("controller")
            and owner.get("kind") == Kind.POOL
            and owner.get("apiVersion") == names.API_VERSION
        ):
            return str(owner["name"])
    return ""


class Want(NamedTuple):
    """An item that should be reconciled."""

    item: Item
    urgency: Urgency = Urgency.TOLD
    after_s: float = 0.0


def concerned_by_child(obj: Object) -> Iterator[Want]:
    """By something that belongs to an InstancePool: that one."""
    if pool := pool_of(obj):
        item = Item(Kind.POOL, Key(obj["metadata"].get("namespace", ""), pool))
        yield Want(item, after_s=SETTLE_S)


def concerned_by_pool(change: Change[Object]) -> Iterator[Want]:
    """By an InstancePool: itself, and the ModelService that it belongs to or belonged to."""
    yield _itself(Kind.POOL, change)
    for obj in (change.value, change.before):
        if obj is not None and (service := service_of(obj)):
            yield Want(Item(Kind.SERVICE, Key(change.key.namespace, service)), after_s=SETTLE_S)


def concerned_by_service(change: Change[Object]) -> Iterator[Want]:
    yield _itself(Kind.SERVICE, change)


def _itself(kind: Kind, change: Change[Object]) -> Want:
    """At once where it is new or somebody asks for something else, later where only its status may be another."""
    item = Item(kind, change.key)
    if change.kind is not ChangeKind.MODIFIED or change.before is None:
        return Want(item)
    if _asked(change.before) != _asked(change.value):
        return Want(item, Urgency.CHANGED)
    return Want(item, after_s=SETTLE_S)


def _asked(obj: Object) -> tuple[object, object]:
    metadata = obj["metadata"]
    return metadata.get("generation"), metadata.get("deletionTimestamp")
