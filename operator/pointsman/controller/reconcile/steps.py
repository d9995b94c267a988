"""How many instances to make and which to remove now: arithmetic of scaling and rolling changes.

The bounds are those of Kubernetes' Deployments (never more than replicas + surge while old ones are there, never fewer ready
than replicas - unavailable by our own doing), but what is counted are instances with names, not copies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pointsman.controller.reconcile.instances import Instance


@dataclass(frozen=True, slots=True)
class Steps:
    create: int
    remove: tuple[Instance, ...]


def removal_order(instances: Iterable[Instance]) -> list[Instance]:
    """Who goes first: whom somebody has named, who does not serve, who has least to do, who is newest."""
    return sorted(instances, key=lambda i: (not i.remove_first, i.ready, i.running, -i.created_s, i.name))


def steps(
    current: Sequence[Instance], old: Sequence[Instance], replicas: int, surge: int, unavailable: int
) -> Steps:
    """`current` are of the revision that is wanted, `old` are all others. None of them is ending."""
    surplus = len(current) - replicas
    remove = removal_order(current)[: max(0, surplus)]
    if not old:
        return Steps(max(0, -surplus), tuple(remove))
    total = len(current) + len(old)
    fewest = max(0, replicas - unavailable)
    create = max(0, min(-surplus, replicas + surge - total))
    unready_current = sum(not instance.ready for instance in current)
    # First those that do not serve, but never so many that one that has merely gone quiet everywhere ends service.
    room = max(0, total - fewest - unready_current - len(remove))
    quiet = [instance for instance in removal_order(old) if not instance.ready][:room]
    ready = sum(instance.ready for instance in (*current, *old)) - sum(i.ready for i in remove)
    serving = [instance for instance in removal_order(old) if instance.ready]
    serving = serving[: max(0, min(ready - fewest, room - len(quiet)))]
    return Steps(create, (*remove, *quiet, *serving))
