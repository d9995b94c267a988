"""What reconciling can ask the shell to do. Each is idempotent: carried out twice, the second changes nothing.

Actions are carried out in their order; the first that fails ends the pass, and the object is reconciled again later. So a
crash between any two leaves a state from which the next pass goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: A Kubernetes object or a part of one, as JSON has it.
Object = Mapping[str, Any]

FIELD_MANAGER = "pointsman"


@dataclass(frozen=True, slots=True)
class Ref:
    """Which object."""

    api_version: str
    kind: str
    name: str
    namespace: str | None
    """None: of the whole cluster."""

    @classmethod
    def of(cls, found: Object) -> "Ref":
        """Of an object that names its kind."""
        meta = found["metadata"]
        return cls(found["apiVersion"], found["kind"], meta["name"], meta.get("namespace"))


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of exactly these fields, as field manager `pointsman`, with force.

    Where `metadata.resourceVersion` is among them the API server refuses with 409 if the object has changed since it was
    seen: the shell reconciles again from newer state. Where `metadata.uid` is, an object of that name that is another one
    by now is left alone in the same way.
    """

    object: Object
    reason: str
    """For logs: created, changed, drifted, adopted."""

    @property
    def ref(self) -> Ref:
        return Ref.of(self.object)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete this very object: 404 and 409 of the precondition on `uid` count as done."""

    ref: Ref
    uid: str
    reason: str
    propagation: Literal["Foreground", "Background"] = "Foreground"
    """Foreground keeps a workload visible until its pods have ended, so that one that drains is not forgotten."""


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """Merge-patch the `status` subresource with `status`, where None removes a field. Asked for only when it differs."""

    ref: Ref
    uid: str
    """Of the object that was seen; a 409 or 404 for another one counts as done."""
    status: Object


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person who describes `about` wants to read. The shell counts repeats instead of repeating."""

    about: Object
    """Reference to the object: apiVersion, kind, name, namespace, uid."""
    type: Literal["Normal", "Warning"]
    reason: str
    """CamelCase, one of a fixed set."""
    message: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """Reconcile again after this many seconds, though nothing may have changed by then: a deadline may have passed."""

    after_s: float


Action = Apply | Delete | PatchStatus | Event | Requeue
