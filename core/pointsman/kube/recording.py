"""Events for whoever runs `kubectl describe`: repeats are counted on one Event instead of making more.

Nothing is decided by Events, so nothing waits for them: `tell` leaves one to be written by `run`, one after the other, so
that they are never more than one of the calls under way. What is left at an end is lost.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pointsman.kube.client import ApiClient
from pointsman.kube.errors import ConflictError, KubeError, NotFoundError
from pointsman.kube.leader import wall_time
from pointsman.kube.resource import EVENTS, Object

log = logging.getLogger(__name__)

REMEMBERED = 2048
WAITING = 4096
"""Events that may wait; more are left out."""
QUIET_S = 300.0
"""A repeat within so long is counted and not yet told, as the API server's storage is for the cluster's state."""
MAX_NOTE = 1024
"""Bytes; `events.k8s.io/v1` refuses more."""


class _News(NamedTuple):
    about: Object
    kind: Literal["Normal", "Warning"]
    reason: str
    note: str
    action: str


@dataclass(slots=True)
class _Told:
    name: str
    count: int
    written_s: float


class EventRecorder:
    """Writes Events in the namespace of the object they are about (`default` for cluster-wide ones)."""

    def __init__(
        self,
        client: ApiClient,
        *,
        controller: str,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._controller = controller
        self._instance = instance
        self._clock = clock
        self._told: OrderedDict[tuple[str, str, str, str], _Told] = OrderedDict()
        self._news: asyncio.Queue[_News] = asyncio.Queue(WAITING)

    def tell(
        self, about: Object, kind: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None:
        """As `record`, when its turn comes, and without a word to the caller if it fails."""
        try:
            self._news.put_nowait(_News(about, kind, reason, note, action))
        except asyncio.QueueFull:
            log.debug("an Event is left out, for %d wait: %s: %s", WAITING, reason, note)

    async def run(self) -> None:
        """Write what was told, until cancelled."""
        while True:
            news = await self._news.get()
            try:
                await self.record(*news)
            except KubeError as error:
                log.warning("an Event cannot be written: %s: %s: %s", news.reason, news.note, error)

    async def record(
        self, about: Object, kind: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> None:
        """`about`: apiVersion, kind, name, namespace and uid. Raises KubeError."""
        now_s = self._clock()
        said = (about.get("uid", ""), kind, reason, note)
        told = self._told.get(said)
        namespace = about.get("namespace") or "default"
        if told is None:
            told = _Told(_name(about, said), 1, now_s)
            await self._create(about, namespace, kind, reason, note, action, told)
        else:
            told.count += 1
            self._told.move_to_end(said)
            if now_s - told.written_s < QUIET_S:
                return
            series = {"series": {"count": told.count, "lastObservedTime": wall_time()}}
            try:
                await self._client.merge(EVENTS, series, told.name, namespace, manager=self._controller)
            except NotFoundError:  # Events are kept for an hour
                told.count = 1
                await self._create(about, namespace, kind, reason, note, action, told)
            told.written_s = now_s
        self._told[said] = told
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    async def _create(
        self, about: Object, namespace: str, kind: str, reason: str, note: str, action: str, told: _Told
    ) -> None:
        event: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": told.name, "namespace": namespace},
            "regarding": dict(about),
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note.encode()[:MAX_NOTE].decode(errors="ignore"),
            "eventTime": wall_time(),
            "reportingController": self._controller,
            "reportingInstance": self._instance[:128],
        }
        try:
            await self._client.create(EVENTS, event, manager=self._controller)
        except ConflictError:
            # Told before this process began: the name says that it is the same.
            series = {"series": {"count": 2, "lastObservedTime": wall_time()}}
            await self._client.merge(EVENTS, series, told.name, namespace, manager=self._controller)


def _name(about: Object, said: tuple[str, str, str, str]) -> str:
    digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
    return f"{about['name'][:200]}.{digest}"
