"""A local copy of the objects of one kind that corrects itself.

List, then watch from the list's version. A watch can be lost without a trace, so the list is taken again on a timer
and after every error, and compared with what is held: changes whose events got lost are told all the same. A watch
that the server ends in order is resumed where it stopped, without a list.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from pointsman.kube.client import ApiClient
from pointsman.kube.errors import ApiError, ExpiredError, KubeError, NotFoundError
from pointsman.kube.pacing import Backoff, Timing, jittered
from pointsman.kube.resource import Key, Object, Resource
from pointsman.kube.store import Change, Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Listener = Callable[[Change[T]], None]


@dataclass(slots=True)
class _Scope:
    """One collection that is listed and watched: a namespace, or all of them."""

    namespace: str
    backoff: Backoff
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    listed_s: float | None = None
    heard_s: float | None = None
    active_s: float = 0.0
    """When it last heard or tried something."""
    installed: bool = False
    trouble: str = ""


@dataclass(slots=True)
class Counts:
    """What a cache has done so far."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    errors: int = 0
    invented: int = 0
    """Changes that a later list found and no watch had told."""


class Cache(Generic[T]):
    """The objects of one kind, label-selected, of all namespaces or some, each as `parse` made it (see Store).

    `on_change` is called on the event loop, in order, for each change exactly once; it must neither block nor raise.
    `optional` is for kinds whose definition may not be installed: they count as empty until it is.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource,
        parse: Callable[[Object], T],
        *,
        namespaces: Sequence[str] = (),
        selector: str = "",
        on_change: Listener[T] | None = None,
        timing: Timing | None = None,
        optional: bool = False,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self.resource = resource
        self.counts = Counts()
        self._client = client
        self._store = Store(parse)
        self._selector = selector
        self._listeners: list[Listener[T]] = [] if on_change is None else [on_change]
        self._timing = timing or Timing()
        self._optional = optional
        self._clock = clock
        self._rng = rng or Random()
        self._scopes = [
            _Scope(
                namespace, Backoff(self._timing.first_retry_s, self._timing.last_retry_s), active_s=clock()
            )
            for namespace in (namespaces if resource.namespaced and namespaces else ("",))
        ]

    def __len__(self) -> int:
        return len(self._store)

    def get(self, key: Key) -> T | None:
        return self._store.get(key)

    def keys(self) -> Iterator[Key]:
        return self._store.keys()

    def items(self) -> Iterator[tuple[Key, T]]:
        return self._store.items()

    def values(self) -> Iterator[T]:
        return self._store.values()

    @property
    def unreadable(self) -> dict[Key, str]:
        """Objects that `parse` could not read, and why."""
        return self._store.unreadable

    @property
    def is_synced(self) -> bool:
        """Whether everything was listed at least once."""
        return all(scope.listed.is_set() for scope in self._scopes)

    @property
    def is_installed(self) -> bool:
        """Whether the kind existed at the last list."""
        return any(scope.installed for scope in self._scopes)

    @property
    def trouble(self) -> str:
        """Why it cannot follow right now, in words; empty while it can."""
        return "; ".join(scope.trouble for scope in self._scopes if scope.trouble)

    async def synced(self) -> None:
        """Until everything was listed once."""
        for scope in self._scopes:
            await scope.listed.wait()

    def age_s(self, now_s: float) -> float:
        """How long ago the API server was last heard on the quietest scope; infinite before the first list.

        A healthy cache stays below `Timing.idle_s` plus a few retries.
        """
        return max(float("inf") if scope.heard_s is None else now_s - scope.heard_s for scope in self._scopes)

    def idle_s(self, now_s: float) -> float:
        """How long ago the quietest scope last heard or even tried something. It stays below `Timing.idle_s`, or the
        pause between tries, or `Timing.relist_s` where the kind is not installed, unless the task has died or hangs.
        """
        return max(now_s - scope.active_s for scope in self._scopes)

    def listed_age_s(self, now_s: float) -> float:
        """How long ago everything was last compared with a list; infinite before the first."""
        return max(
            float("inf") if scope.listed_s is None else now_s - scope.listed_s for scope in self._scopes
        )

    def subscribe(self, listener: Listener[T]) -> Callable[[], None]:
        """Call `listener` for every change from now on; what is returned ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            self._listeners.remove(listener)

        return unsubscribe

    async def changes(self) -> AsyncGenerator[Change[T], None]:
        """Every change from the first `anext` on, as an iterator whose backlog is unbounded: close it."""
        queue: asyncio.Queue[Change[T]] = asyncio.Queue()
        unsubscribe = self.subscribe(queue.put_nowait)
        try:
            while True:
                yield await queue.get()
        finally:
            unsubscribe()

    def learn(self, obj: Object) -> None:
        """Take the answer to a write of our own, so that what is read next already has it."""
        self._tell(self._store.upsert(obj))

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(self._follow(scope), name=f"cache of {self.resource.plural}")

    async def _follow(self, scope: _Scope) -> None:
        while True:
            try:
                version = await self._list(scope)
                relist_s = self._clock() + jittered(self._timing.relist_s, self._rng)
                if version is None:
                    await asyncio.sleep(relist_s - self._clock())
                else:
                    await self._watch(scope, version, relist_s)
            except ExpiredError as error:
                await self._pause(scope, error, expected=True)
            except KubeError as error:
                await self._pause(scope, error)

    async def _list(self, scope: _Scope) -> str | None:
        """The version to watch from; None where the kind does not exist. Raises KubeError."""
        self.counts.lists += 1
        scope.active_s = self._clock()
        version: str | None = None
        objects: list[Object] = []
        try:
            listing = await self._client.list(
                self.resource, scope.namespace, selector=self._selector, timeout_s=self._timing.list_timeout_s
            )
            objects, version = listing.items, listing.version
        except NotFoundError:
            if not self._optional:
                raise
        changes = self._store.replace(objects, version or "", scope.namespace)
        if scope.listed.is_set():
            self.counts.invented += len(changes)
        self._tell(changes)
        scope.listed_s = scope.heard_s = scope.active_s = self._clock()
        scope.installed = version is not None
        scope.trouble = ""
        scope.listed.set()
        return version

    async def _watch(self, scope: _Scope, version: str, relist_s: float) -> None:
        """Follow until the list is due. Raises KubeError."""
        while (left_s := relist_s - self._clock()) > 0:
            self.counts.watches += 1
            began_s = scope.active_s = self._clock()
            events = self._client.watch(
                self.resource,
                scope.namespace,
                version=version,
                selector=self._selector,
                timeout_s=left_s,
                idle_s=self._timing.idle_s,
            )
            # The server is asked to end the watch in time, and not relied upon.
            try:
                async with asyncio.timeout(left_s), aclosing(events):
                    async for event in events:
                        scope.heard_s = scope.active_s = self._clock()
                        version = event.object["metadata"]["resourceVersion"]
                        if event.type == "BOOKMARK":
                            continue
                        self.counts.events += 1
                        deleted = event.type == "DELETED"
                        self._tell(
                            self._store.remove(event.object) if deleted else self._store.upsert(event.object)
                        )
            except TimeoutError:
                return
            finally:
                healthy = self._clock() - began_s >= self._timing.healthy_s
                if healthy:
                    scope.backoff.succeeded()
            if not healthy:
                await asyncio.sleep(scope.backoff.failed(self._rng))

    async def _pause(self, scope: _Scope, error: KubeError, *, expected: bool = False) -> None:
        self.counts.errors += 1
        if not expected and str(error) != scope.trouble:
            log.warning("%s are not followed: %s", self.resource.plural, error)
        scope.trouble = str(error)
        asked_s = error.retry_after_s if isinstance(error, ApiError) else None
        await asyncio.sleep(scope.backoff.failed(self._rng, asked_s or 0.0))

    def _tell(self, changes: list[Change[T]]) -> None:
        for change in changes:
            for listener in tuple(self._listeners):
                listener(change)
