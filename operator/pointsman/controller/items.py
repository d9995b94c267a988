"""What can be reconciled, and which of it a change concerns."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pointsman.api.resources import names
from pointsman.kube.resource import Key, Object


class Kind(StrEnum):
    SERVICE = "ModelService"
    POOL = "InstancePool"


class Item(NamedTuple):
    """One object to be reconciled."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind.value} {self.key}"


def label_of(obj: Object, label: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(label) or "")


def concerned_by_child(obj: Object) -> Iterator[Item]:
    """By a workload, pod, revision, ConfigMap or disruption budget: its InstancePool."""
    if pool := label_of(obj, names.INSTANCE_POOL):
        yield Item(Kind.POOL, Key(obj["metadata"].get("namespace", ""), pool))


def concerned_by_pool(obj: Object) -> Iterator[Item]:
    """By an InstancePool: itself, and the ModelService that it belongs to."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    yield Item(Kind.POOL, Key(namespace, name))
    if service := label_of(obj, names.MODEL_SERVICE):
        yield Item(Kind.SERVICE, Key(namespace, service))


def concerned_by_service(obj: Object) -> Iterator[Item]:
    yield Item(Kind.SERVICE, Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
