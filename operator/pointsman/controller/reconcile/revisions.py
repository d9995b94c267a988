"""What instances have been made from: revisions, which of them works, which was given up, and which is wanted now."""

from collections.abc import Sequence
from dataclasses import dataclass

from pointsman.controller.objects.blueprint import Blueprint
from pointsman.controller.objects.keeping import FAILED_AT, FAILED_BECAUSE, PROVEN_AT
from pointsman.controller.objects.meta import REVISION
from pointsman.controller.reconcile.actions import Object
from pointsman.controller.reconcile.instances import Instance, Seen
from pointsman.controller.reconcile.times import seconds

KEPT = 2
"""Revisions kept beside those in use, for people who look back."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One that is kept."""

    object: Object
    hash: str
    number: int
    created_s: float
    proven_at: str
    failed_at: str
    failed_because: str

    def blueprint(self) -> Blueprint:
        return Blueprint.from_data(self.object["data"])


@dataclass(frozen=True, slots=True)
class History:
    """All that are kept, by their hashes."""

    revisions: dict[str, Revision]

    @property
    def stable(self) -> str | None:
        """The one that was last seen to work everywhere."""
        proven = [found for found in self.revisions.values() if found.proven_at]
        return max(proven, key=lambda found: (found.proven_at, found.number)).hash if proven else None

    @property
    def next_number(self) -> int:
        return 1 + max((found.number for found in self.revisions.values()), default=0)

    def failed(self, revision: str) -> bool:
        found = self.revisions.get(revision)
        return found is not None and bool(found.failed_at)

    def unused(self, used: frozenset[str]) -> list[Revision]:
        """Those that may go, oldest first."""
        idle = sorted((r for r in self.revisions.values() if r.hash not in used), key=lambda r: r.number)
        return idle[: max(0, len(idle) - KEPT)]


def history_of(revisions: Sequence[Object], pool_uid: str) -> History:
    """Revisions that are the pool's own or nobody's, and not being deleted."""
    found = {}
    for revision in revisions:
        meta = revision["metadata"]
        owners = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
        name = meta.get("labels", {}).get(REVISION)
        if not name or meta.get("deletionTimestamp") or (owners and pool_uid not in owners):
            continue
        annotations = meta.get("annotations", {})
        found[name] = Revision(
            object=revision,
            hash=name,
            number=int(revision.get("revision", 0)),
            created_s=seconds(meta.get("creationTimestamp")),
            proven_at=annotations.get(PROVEN_AT, ""),
            failed_at=annotations.get(FAILED_AT, ""),
            failed_because=annotations.get(FAILED_BECAUSE, ""),
        )
    return History(found)


def proves(revision: str, seen: Seen, replicas: int) -> bool:
    """Whether the change to this revision is complete: nothing else is left, and all of it serves."""
    return (
        replicas > 0
        and len(seen.live) == replicas
        and all(instance.revision == revision and instance.ready for instance in seen.live)
    )


def last_progress(revision: str, history: History, seen: Seen, now: float) -> float:
    """When the change to this revision last got on: an instance was made or became ready, or old ones are still ending,
    which holds accelerators that the new ones wait for.
    """
    kept = history.revisions.get(revision)
    own: list[Instance] = [instance for instance in seen.live if instance.revision == revision]
    times = [kept.created_s if kept is not None else now]
    times += [instance.created_s for instance in own]
    times += [instance.ready_since_s for instance in own]
    times.append(min(now, seen.ending_until_s))
    return max(times)
