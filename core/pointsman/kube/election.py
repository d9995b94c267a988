"""Who leads, by a Lease: the decisions, without I/O and clock.

The algorithm is client-go's (`tools/leaderelection`): a candidate never compares clocks with the holder; it counts a Lease
as expired when it has itself not seen it change for the Lease's duration. The holder gives up earlier than that, after
`give_up_s` without a successful renewal, so that two never lead at once as long as their clocks run equally fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.kube.resource import LEASES, Key, Object


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. A crashed leader is replaced within `lease_s + 2 * retry_s`, and the time two requests take."""

    lease_s: int = 9
    give_up_s: float = 6.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.give_up_s < self.lease_s:
            raise ValueError("needed: 0 < retry < give up < lease duration")


@dataclass(frozen=True, slots=True)
class Write:
    """Create the Lease, or update the one that was seen: only if nobody else does so first."""

    lease: Object
    create: bool


class Election:
    """One candidate's state. Call `seen` with each Lease read or written, then `next_write`."""

    def __init__(self, key: Key, identity: str, terms: Terms) -> None:
        self.terms = terms
        self._key = key
        self._identity = identity
        self._lease: Object | None = None
        self._record: Mapping[str, Any] = {}
        self._changed_s = 0.0
        self._renewed_s: float | None = None

    @property
    def holder(self) -> str:
        """As last seen; empty for nobody."""
        return str(self._record.get("holderIdentity") or "")

    def leads(self, now_s: float) -> bool:
        """Whether this candidate may act as the leader."""
        return self._renewed_s is not None and now_s < self._renewed_s + self.terms.give_up_s

    def seen(self, lease: Object | None, now_s: float) -> None:
        """The Lease as it was read; None where there is none."""
        record: Mapping[str, Any] = {} if lease is None else lease.get("spec") or {}
        if lease is None or self._lease is None or _version(lease) != _version(self._lease):
            self._changed_s = now_s
        self._lease, self._record = lease, record
        if self.holder != self._identity:
            self._renewed_s = None

    def written(self, lease: Object, asked_s: float) -> None:
        """Our write succeeded; `asked_s`: when it was sent, for the Lease runs from then at the latest."""
        self.seen(lease, asked_s)
        self._renewed_s = asked_s

    def next_write(self, now_s: float, wall_time: str) -> Write | None:
        """What to write now; None while somebody else leads. `wall_time` (RFC 3339, microseconds) is for people."""
        if self._lease is None:
            spec = self._spec(wall_time, wall_time, transitions=0)
            metadata = {"name": self._key.name, "namespace": self._key.namespace}
            return Write(
                {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec},
                create=True,
            )
        transitions = int(self._record.get("leaseTransitions") or 0)
        if self.holder == self._identity:
            acquired = self._record.get("acquireTime") or wall_time
            return Write(
                {**self._lease, "spec": self._spec(acquired, wall_time, transitions=transitions)},
                create=False,
            )
        duration_s = float(self._record.get("leaseDurationSeconds") or self.terms.lease_s)
        if self.holder and now_s < self._changed_s + duration_s:
            return None
        spec = self._spec(wall_time, wall_time, transitions=transitions + 1)
        return Write({**self._lease, "spec": spec}, create=False)

    def release(self, wall_time: str) -> Write | None:
        """What to write at an orderly end, so that the next leader need not wait; None if this one does not lead."""
        if self._lease is None or self._renewed_s is None:
            return None
        self._renewed_s = None
        spec = {**self._record, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": wall_time}
        return Write({**self._lease, "spec": spec}, create=False)

    def _spec(self, acquired: str, renewed: str, *, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self.terms.lease_s,
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        }


def _version(lease: Object) -> object:
    return lease["metadata"].get("resourceVersion")
