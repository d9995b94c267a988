"""Children by their parent: what one reconcile reads, without a walk over all there are."""

from collections import defaultdict
from collections.abc import Callable

from pointsman.kube.resource import Key, Object
from pointsman.kube.store import Change, ChangeKind


class ByParent:
    """Subscribe `take` to a cache. `name_of` says how a child's parent is called, in the child's namespace."""

    def __init__(self, name_of: Callable[[Object], str]) -> None:
        self._name_of = name_of
        self._children: defaultdict[Key, dict[Key, Object]] = defaultdict(dict)

    def take(self, change: Change[Object]) -> None:
        if change.before is not None:
            self._drop(change.key, change.before)
        if change.kind is not ChangeKind.DELETED and (parent := self._parent(change.key, change.value)):
            self._children[parent][change.key] = change.value

    def of(self, parent: Key) -> tuple[Object, ...]:
        """In the order of their names."""
        children = self._children.get(parent)
        return () if children is None else tuple(children[key] for key in sorted(children))

    def _drop(self, key: Key, before: Object) -> None:
        parent = self._parent(key, before)
        if parent is not None and parent in self._children:
            self._children[parent].pop(key, None)
            if not self._children[parent]:
                del self._children[parent]

    def _parent(self, key: Key, obj: Object) -> Key | None:
        name = self._name_of(obj)
        return Key(key.namespace, name) if name else None


Listener = Callable[[Change[Object]], None]
