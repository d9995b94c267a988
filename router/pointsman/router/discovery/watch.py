"""Follows the API server and tells what is served, as often as it changes.

A dead API server or operator changes nothing: what was known last stays in force.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from pointsman.api.config_file import ConfigError
from pointsman.api.resources import names
from pointsman.api.resources.model_service import ModelService
from pointsman.api.router_config import KubernetesConfig
from pointsman.kube.access import Access, find_access, kubeconfig_access
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing
from pointsman.kube.resource import MODEL_SERVICES, PODS, Object
from pointsman.kube.store import Change, ChangeKind
from pointsman.router.discovery.found import Found, find
from pointsman.router.discovery.pods import EnginePod, read_pod
from pointsman.router.discovery.seam import Served

log = logging.getLogger(__name__)

LEAST_GAP_S = 0.05
"""Between two times that everything is put into force: a change counts at once, a flood of them costs little."""


class Discovery:
    """One watch of ModelServices and one of engine pods."""

    def __init__(
        self,
        config: KubernetesConfig,
        access: Access,
        clock: Callable[[], float],
        timing: Timing | None = None,
    ) -> None:
        self._client = ApiClient(access, user_agent="pointsman-router", clock=clock)
        self._clock = clock
        self._changed = asyncio.Event()
        self._known = Found()
        namespaces = (access.namespace,) if config.namespaces is None else config.namespaces
        common: dict[str, Any] = {
            "namespaces": namespaces,
            "on_change": self._notice,
            "timing": timing or Timing(relist_s=config.relist_s),
            "clock": clock,
        }
        selector = ",".join(f"{label}={value}" for label, value in names.engine_selector().items())
        self._services: Cache[ModelService] = Cache(self._client, MODEL_SERVICES, read_service, **common)
        self._pods: Cache[EnginePod] = Cache(self._client, PODS, read_pod, selector=selector, **common)

    @property
    def trouble(self) -> str:
        """Why the API server cannot be followed now; empty while it can."""
        return "; ".join(filter(None, (self._services.trouble, self._pods.trouble)))

    @property
    def known(self) -> Found:
        """What is in force."""
        return self._known

    def report(self) -> dict[str, Any]:
        """For the operator, and for people: what is in force, and what is not and why."""
        unreadable = {
            str(key): why for cache in (self._services, self._pods) for key, why in cache.unreadable.items()
        }
        return {
            "model_services": self._known.generations,
            "refused": {**unreadable, **self._known.refused},
            "trouble": self.trouble,
        }

    def reconsider(self) -> None:
        """The file has changed: names may be free, or taken, that were not."""
        self._changed.set()

    async def synced(self) -> None:
        """Until the API server has told everything once."""
        await self._services.synced()
        await self._pods.synced()

    async def follow(self) -> None:
        """Keep the caches true, until cancelled."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._client)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._services.run())
            tasks.create_task(self._pods.run())

    async def tell(self, served: Served) -> None:
        """Put every change into force, until cancelled."""
        while True:
            await self._changed.wait()
            try:
                self.tell_now(served)
            except ConfigError as error:
                log.error("what the cluster says is not in force, what was stays:\n%s", error)  # noqa: TRY400 - an answer
            await asyncio.sleep(LEAST_GAP_S)

    def tell_now(self, served: Served) -> None:
        """Put what is known now into force. Raises ConfigError, with nothing changed."""
        self._changed.clear()
        found = find(served.file(), self._services.values(), self._pods.values(), self._known)
        if found == self._known:
            return
        for name, why in found.refused.items():
            if self._known.refused.get(name) != why:
                log.warning("%s: not used as it is: %s", name, why)
        served.found(found)
        self._known = found

    def _notice(self, change: Change[Any]) -> None:
        if change.kind is not ChangeKind.MODIFIED or change.value != change.before:
            self._changed.set()

    def families(self) -> list[Metric]:
        """Metrics."""
        now_s = self._clock()
        caches = (("ModelService", self._services), ("Pod", self._pods))
        age = GaugeMetricFamily(
            "pointsman_discovery_age_seconds", "Since the API server was last heard", labels=["kind"]
        )
        objects = GaugeMetricFamily("pointsman_discovery_objects", "Objects known", labels=["kind"])
        for kind, cache in caches:
            age.add_metric([kind], cache.age_s(now_s))
            objects.add_metric([kind], len(cache))
        refused = GaugeMetricFamily(
            "pointsman_discovery_refused",
            "ModelServices and pods that cannot be used as they are",
            value=len(self.report()["refused"]),
        )
        return [age, objects, refused]


def read_service(obj: Object) -> ModelService:
    """Without what changes all the time and is nothing to a router. Raises ValueError."""
    metadata = {name: obj["metadata"].get(name) for name in ("name", "namespace", "uid", "generation")}
    metadata["creationTimestamp"] = obj["metadata"].get("creationTimestamp")
    return ModelService.from_wire({"metadata": metadata, "spec": obj["spec"]})


def discovery_of(config: KubernetesConfig, clock: Callable[[], float]) -> Discovery:
    """With the access that the configuration names, or the environment. Raises AccessError."""
    access = (
        find_access(os.environ, home=Path.home())
        if config.kubeconfig is None
        else kubeconfig_access(config.kubeconfig)
    )
    return Discovery(config, access, clock)
