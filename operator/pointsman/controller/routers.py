"""Asks router replicas what they have loaded, which is what the condition RouterReady tells."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from pointsman.controller.items import Item, Kind
from pointsman.controller.reconcile.observed import RouterReport
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing, jittered
from pointsman.kube.resource import PODS, Key, Object

log = logging.getLogger(__name__)

ASK_S = 2.0
TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
AT_ONCE = 16
ADMIN_PORT = "admin"
"""Name of the container port on which routers answer `/ready`."""


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router replica that could answer."""

    name: str
    url: str
    """Of `/ready`; empty while it has no address, or is ending."""


def router_pod(pod: Object) -> RouterPod:
    name = pod["metadata"]["name"]
    address = (pod.get("status") or {}).get("podIP")
    ports = [
        port["containerPort"]
        for container in pod["spec"].get("containers", ())
        for port in container.get("ports") or ()
        if port.get("name") == ADMIN_PORT
    ]
    if not address or not ports or pod["metadata"].get("deletionTimestamp"):
        return RouterPod(name, "")
    host = f"[{address}]" if ":" in address else address
    return RouterPod(name, f"http://{host}:{ports[0]}/ready")


class Routers:
    """The router pods of one namespace, and what they said last. Use as an async context manager."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        selector: str,
        timing: Timing,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.cache = Cache(
            client,
            PODS,
            router_pod,
            namespaces=[namespace],
            selector=selector,
            timing=timing,
            clock=clock,
            rng=rng,
        )
        self._rng = rng
        self._session: aiohttp.ClientSession | None = None
        self.reports: tuple[RouterReport, ...] | None = None
        """None until all have been asked once."""
        self._asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask_on(self, tell: Callable[[tuple[RouterReport, ...], set[Item]], None]) -> None:
        """Ask again and again until cancelled. `tell` gets the answers, and the ModelServices whose answer is another."""
        await self.cache.synced()
        while True:
            before, self.reports = self.reports, await self.ask()
            if self.reports != before:
                tell(self.reports, _differing(before or (), self.reports))
            self._asked.set()
            await asyncio.sleep(jittered(ASK_S, self._rng))

    async def asked(self) -> None:
        """Until all have been asked once."""
        await self._asked.wait()

    async def ask(self) -> tuple[RouterReport, ...]:
        """What every replica that can be reached says now, by name."""
        gate = asyncio.Semaphore(AT_ONCE)
        pods = sorted(self.cache.values(), key=lambda pod: pod.name)
        return tuple(await asyncio.gather(*(self._ask(pod, gate) for pod in pods)))

    async def _ask(self, pod: RouterPod, gate: asyncio.Semaphore) -> RouterReport:
        if self._session is None:
            raise RuntimeError("Routers is used outside of its context")
        silent = RouterReport(pod.name, ready=False)
        if not pod.url:
            return silent
        try:
            async with gate, self._session.get(pod.url) as response:
                body = await response.content.read(MAX_ANSWER_BYTES)
                return RouterReport(
                    pod.name, ready=response.status == 200, generations=_generations(orjson.loads(body))
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.debug("router %s does not say what it has loaded: %s", pod.name, error)
            return silent


def _generations(answer: Any) -> dict[str, int]:
    told = answer.get("model_services") if isinstance(answer, Mapping) else None
    if not isinstance(told, Mapping):
        return {}
    return {str(name): value for name, value in told.items() if isinstance(value, int)}


def _differing(before: tuple[RouterReport, ...], after: tuple[RouterReport, ...]) -> set[Item]:
    def by_service(reports: tuple[RouterReport, ...]) -> dict[str, list[tuple[str, bool, int]]]:
        found: dict[str, list[tuple[str, bool, int]]] = {}
        for report in reports:
            for name, generation in report.generations.items():
                found.setdefault(name, []).append((report.pod, report.ready, generation))
        return found

    old, new = by_service(before), by_service(after)
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return {Item(Kind.SERVICE, Key(*name.split("/", 1))) for name in changed if "/" in name}
