"""The operator as one program: caches, election, work, probes, and kopf around it."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random

from pointsman.controller.applying import Applier
from pointsman.controller.frame import Limits, quiet_kopf, run_kopf
from pointsman.controller.items import Item, Kind, Want
from pointsman.controller.metrics import OperatorMetrics
from pointsman.controller.observing import Observer, dead_of
from pointsman.controller.reconcile.observed import ClusterFacts, RouterReport
from pointsman.controller.routers import Routers
from pointsman.controller.serving import served
from pointsman.controller.working import Pace, Work
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.election import Election, Terms
from pointsman.kube.leader import Leader
from pointsman.kube.pacing import Timing
from pointsman.kube.recording import EventRecorder
from pointsman.kube.resource import Key

log = logging.getLogger(__name__)

CONTROLLER = "pointsman.io/controller"
"""As Events name it."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """What `pointsman controller` is told."""

    lease: Key
    identity: str
    """This replica's, in the Lease and in Events: unique among those that run at the same time."""
    namespaces: tuple[str, ...] = ()
    """Watched; empty: all of them."""
    router_namespace: str = ""
    router_selector: str = "app.kubernetes.io/component=router"
    told: ClusterFacts = field(default_factory=ClusterFacts)
    """Of the cluster, as far as it is not found out."""
    host: str = "0.0.0.0"
    port: int = 8081
    """Of probes and metrics; 0: any."""
    timing: Timing = field(default_factory=Timing)
    terms: Terms = field(default_factory=Terms)
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)


class ControllerApp:
    """One replica. `run` ends when `stop` is called; it raises what broke it."""

    def __init__(
        self,
        access: Access,
        options: ControllerOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self._access = access
        self._options = options
        self._clock = clock
        self._rng = rng or Random()
        self.metrics = OperatorMetrics()
        self._work = Work(options.pace, self.metrics, clock=clock, wall_clock=wall_clock, rng=self._rng)
        self._stop = asyncio.Event()
        self.port: int | None = None
        """Of probes and metrics, once they are answered."""

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Raises OSError when the port is taken."""
        options = self._options
        quiet_kopf()
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                ApiClient(
                    self._access,
                    user_agent="pointsman-controller",
                    clock=self._clock,
                    on_call=self.metrics.called,
                )
            )
            observer = Observer(
                client,
                self._work.want,
                namespaces=options.namespaces,
                told=options.told,
                timing=options.timing,
                clock=self._clock,
                rng=self._rng,
            )
            routers = await stack.enter_async_context(
                Routers(
                    client,
                    namespace=options.router_namespace or options.lease.namespace,
                    selector=options.router_selector,
                    timing=options.timing,
                    clock=self._clock,
                    rng=self._rng,
                )
            )
            leader = self._leader(client, observer, routers)
            self.metrics.read_off(
                observer.caches.values(),
                queue=self._work.waiting,
                leads=lambda: leader.is_leader,
                clock=self._clock,
            )
            self.port = await stack.enter_async_context(
                served(
                    options.host,
                    options.port,
                    sick=lambda: self._sick(observer, routers),
                    unready=lambda: "" if observer.is_synced else "not everything has been listed yet",
                    registry=self.metrics.registry,
                )
            )
            await self._until_stopped(client, observer, routers, leader)

    def _leader(self, client: ApiClient, observer: Observer, routers: Routers) -> Leader:
        options = self._options
        recorder = EventRecorder(client, controller=CONTROLLER, instance=options.identity, clock=self._clock)
        applier = Applier(client, recorder, observer.learn)

        async def lead() -> None:
            # Who begins to lead knows what routers say, or every condition would be Unknown for a moment.
            await routers.asked()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(recorder.run())
                tasks.create_task(self._work.lead(observer, applier))

        election = Election(options.lease, options.identity, options.terms)
        return Leader(
            client, options.lease, election, lead, manager=CONTROLLER, clock=self._clock, rng=self._rng
        )

    def _told(self, observer: Observer, reports: tuple[RouterReport, ...], concerned: set[Item]) -> None:
        # The first router, or the last: that is said of every ModelService.
        if bool(observer.reports) != bool(reports):
            concerned = {item for item in observer.everything() if item.kind is Kind.SERVICE}
        observer.reports = reports
        for item in concerned:
            self._work.want(Want(item))

    async def _until_stopped(
        self, client: ApiClient, observer: Observer, routers: Routers, leader: Leader
    ) -> None:
        options = self._options
        tasks = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in (
                ("stop", self._stop.wait()),
                ("caches", observer.run()),
                ("router pods", routers.cache.run()),
                ("routers", routers.ask_on(partial(self._told, observer))),
                ("leader", leader.run()),
                ("kopf", run_kopf(self._work.want, client, options.limits, options.namespaces)),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[1:]:
                if task.done():
                    task.result()
                    raise RuntimeError(f"{task.get_name()}: ended without being asked to")
            log.info("stopping")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _sick(self, observer: Observer, routers: Routers) -> str:
        now_s = self._clock()
        if dead := dead_of((*observer.caches.values(), routers.cache), self._options.timing, now_s):
            return f"watches have died: {dead}"
        if stuck := self._work.stuck(now_s):
            return f"work has died: {stuck}"
        return ""
