"""Events for whoever runs `kubectl describe`: repeats are counted on one Event instead of making more."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pointsman.kube.client import ApiClient
from pointsman.kube.errors import ConflictError, NotFoundError
from pointsman.kube.leader import wall_time
from pointsman.kube.resource import EVENTS, Object

REMEMBERED = 2048
QUIET_S = 300.0
"""A repeat within so long is counted and not yet told, as the API server's storage is for the cluster's state."""
MAX_NOTE = 1024
"""Bytes; `events.k8s.io/v1` refuses more."""


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
