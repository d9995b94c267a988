"""What kopf does for the operator: handlers of our custom resources, settings for production, start and end.

docs/design/operator-shell.md says which part of the work is kopf's and which is not, and why.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import kopf

from pointsman.api.resources import names
from pointsman.controller.items import SETTLE_S, Item, Kind, Want
from pointsman.kube.client import ApiClient
from pointsman.kube.resource import INSTANCE_POOLS, MODEL_SERVICES, Key, Resource

PREFIX = f"controller.{names.GROUP}"
"""Of what kopf would keep on objects: nothing, as long as all handlers are for events."""


END_S = 5.0
"""How long kopf may take to end before the process ends without it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, and how many at once."""

    workers: int = 16
    server_timeout_s: int = 240
    client_timeout_s: float = 300.0
    request_timeout_s: float = 30.0
    error_backoffs_s: tuple[float, ...] = (1, 2, 5, 10)


def production_settings(limits: Limits) -> kopf.OperatorSettings:
    """Kopf as it should run beside others on a cluster that is not its own."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = (
        True  # one replica leads by a Lease; peering would need resources of its own
    )
    settings.scanning.disabled = (
        True  # our kinds are known: no right to read all CRDs and namespaces is needed
    )
    settings.posting.enabled = False  # Events are the recorder's, which counts repeats
    settings.persistence.finalizer = f"{PREFIX}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
    settings.queueing.worker_limit = limits.workers
    settings.queueing.error_delays = limits.error_backoffs_s
    settings.watching.server_timeout = limits.server_timeout_s
    settings.watching.client_timeout = limits.client_timeout_s
    settings.watching.connect_timeout = limits.request_timeout_s
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = limits.request_timeout_s
    settings.networking.error_backoffs = limits.error_backoffs_s
    settings.networking.enforce_retry_after = True
    return settings


def handlers(wanted: Callable[[Want], None], client: ApiClient) -> kopf.OperatorRegistry:
    """Handlers in a registry of their own: every event of a ModelService or InstancePool wants it reconciled.

    They are `on.event` only, so that kopf needs no finalizer, keeps no progress and writes nothing.
    """
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf asks again when the API server no longer takes the token, and closes the session.
        return kopf.AiohttpSession(
            aiohttp_session=client.session_for_others(),
            server=client.access.server,
            default_namespace=client.access.namespace,
        )

    kopf.on.login(registry=registry)(login)
    for kind, resource in ((Kind.SERVICE, MODEL_SERVICES), (Kind.POOL, INSTANCE_POOLS)):
        kopf.on.event(*_selector(resource), registry=registry)(_telling(kind, wanted))
    return registry


def _telling(kind: Kind, wanted: Callable[[Want], None]) -> Callable[..., Awaitable[None]]:
    async def changed(namespace: str | None, name: str, **_: Any) -> None:
        # What the change was the caches know better, and sooner; this one only makes sure that it is looked at.
        wanted(Want(Item(kind, Key(namespace or "", name)), after_s=SETTLE_S))

    return changed


async def run_kopf(
    wanted: Callable[[Want], None], client: ApiClient, limits: Limits, namespaces: Sequence[str]
) -> None:
    """Until cancelled, or raises what broke it.

    kopf gets a thread and an event loop of its own, because at its end it cancels every task of its loop that began after
    it did, and the Lease must be given back by one that is not.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(want: Want) -> None:
        loop.call_soon_threadsafe(wanted, want)

    def settle(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(
                kopf.operator(
                    registry=handlers(tell, client),
                    settings=production_settings(limits),
                    namespaces=namespaces,
                    clusterwide=not namespaces,
                    stop_flag=stop,
                )
            )
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    # A daemon: kopf gives its own tasks as long as they want to end, and the process must end in its grace time.
    threading.Thread(target=run, name="kopf", daemon=True).start()
    try:
        await asyncio.shield(ended)
    finally:
        stop.set()
        await asyncio.wait([ended], timeout=END_S)


def quiet_kopf() -> None:
    """Let it not tell each handled event, which is what our own logs do, nor that its thread gets no signals."""
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural
