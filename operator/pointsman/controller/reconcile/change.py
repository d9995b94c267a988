"""Which revision a pool moves to: the one its spec asks for, or, where that was given up, the one that works.

A change that makes no progress until its deadline is given up: its revision is marked, and from then on the pool moves to
the revision that was last seen to work everywhere. The mark is kept with the revision, so that nothing is forgotten by an
operator that ends, and goes away as soon as the spec asks for something else.
"""

from collections import Counter
from dataclasses import dataclass

from pointsman.controller.objects.blueprint import Blueprint
from pointsman.controller.reconcile.instances import Instance, Seen
from pointsman.controller.reconcile.revisions import History, last_progress, proves


@dataclass(frozen=True, slots=True)
class Change:
    """What this pass holds to be so."""

    desired: str
    """Revision the spec asks for; empty where that cannot be had."""
    target: str
    """Revision that new instances are made of; empty: none are made."""
    blueprint: Blueprint | None
    """Of the target."""
    stable: str
    """Revision to go back to; empty where none has been seen to work."""
    current: tuple[Instance, ...]
    """Instances that may stay."""
    old: tuple[Instance, ...]
    """Instances to be replaced."""
    failed: str = ""
    """The desired revision, where it has been given up."""
    failed_now: str = ""
    """Why it is given up in this very pass; else empty."""
    late: bool = False
    """The deadline has passed and there is nothing to go back to."""
    proven_now: bool = False
    deadline_s: float | None = None
    """When to look again."""


def change_of(
    wanted: Blueprint | None,
    history: History,
    seen: Seen,
    *,
    replicas: int,
    deadline_s: int,
    paused: bool,
    now: float,
) -> Change:
    desired = wanted.hash if wanted is not None else ""
    stable = history.stable or ""
    way_back = stable or _serving(desired, history, seen)
    failed = bool(desired) and history.failed(desired) and stable not in {"", desired}
    failed_now = ""
    late = False
    look_at = None
    waiting = [i for i in seen.live if i.revision == desired and not i.ready]
    if waiting and desired != stable and not failed and not paused:
        end = last_progress(desired, history, seen, now) + deadline_s
        if now < end:
            look_at = end
        elif way_back:
            stable = way_back
            failed_now = f"not ready within {deadline_s} s of its last progress: {_suffering(waiting)}"
        else:
            late = True
    given_up = failed or bool(failed_now)
    target = stable if given_up or not desired else desired
    current = tuple(i for i in seen.live if i.revision == target or paused or not target)
    if paused and stable:
        target = stable
    proven = bool(desired) and desired != stable and not given_up and proves(desired, seen, replicas)
    return Change(
        desired=desired,
        target=target,
        blueprint=wanted if target == desired and wanted is not None else _kept(target, history),
        stable=desired if proven else stable,
        current=current,
        old=tuple(i for i in seen.live if i not in current),
        failed=desired if given_up else "",
        failed_now=failed_now,
        late=late,
        proven_now=proven,
        deadline_s=look_at,
    )


def _serving(desired: str, history: History, seen: Seen) -> str:
    """The revision that most instances serve with, where none was ever seen to work everywhere: a pool may be changed before
    its first revision is complete.
    """
    ready = Counter(
        i.revision for i in seen.live if i.ready and i.revision != desired and i.revision in history.revisions
    )
    return max(ready, key=lambda revision: (ready[revision], revision), default="")


def _kept(revision: str, history: History) -> Blueprint | None:
    found = history.revisions.get(revision)
    return found.blueprint() if found is not None else None


def _suffering(waiting: list[Instance]) -> str:
    told = next(filter(None, (i.trouble or i.unschedulable for i in waiting)), "")
    return told or "its engine does not become ready"
