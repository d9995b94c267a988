"""The router as a whole: its parts put together, started, drained and stopped."""

import asyncio
import gc
import hashlib
import logging
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from pointsman.api.config_file import ConfigError, Problem
from pointsman.api.router_config import RouterConfig, names_of
from pointsman.core.instances import InstanceId
from pointsman.http.client import Sweeper
from pointsman.router.admin import AdminApp, AdminServer
from pointsman.router.brain import Brain
from pointsman.router.discovery.found import Found, merged
from pointsman.router.discovery.seam import Discovers
from pointsman.router.fleet import Fleet
from pointsman.router.gateway import Gateway
from pointsman.router.health import Watch
from pointsman.router.instance_metrics import InstanceMetrics
from pointsman.router.metrics import RouterMetrics
from pointsman.router.prompts import PromptReader
from pointsman.router.reload import Reloader, Stamp, stamp_of
from pointsman.router.server import PublicServer, serve_public
from pointsman.router.settings import rules_of, settings_of
from pointsman.router.tenants import Tenants
from pointsman.router.tls import engine_context, load_certificate, server_context

log = logging.getLogger(__name__)

TEND_S = 0.1
"""How often what changes with time alone is looked at."""
FIRST_ROUND_S = 5.0
"""How long the start waits for engines to answer their first health check."""
HASH_KEY_BYTES = 32


class RouterApp:
    """One router process. `start`, then `drain` and `stop`; or `run` for all of it, until a signal."""

    def __init__(
        self,
        config: RouterConfig,
        file: Path,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        discovery: Discovers | None = None,
    ) -> None:
        """`file` is where `config` was read from, and will be read from again. Raises ConfigError, OSError."""
        self._file = file
        self._discovery = discovery
        self._found = Found()
        self._in_force = config
        self._config = config
        self._clock = clock
        rng = rng or Random()
        self._sweeper = Sweeper(clock=clock)
        self._metrics = RouterMetrics(model.name for model in config.models)
        self._brain = Brain(rules_of(config), clock, rng)
        self._watch = Watch(clock, rng)
        self._fleet = Fleet(self._brain, self._sweeper, self._running_on, self._watch.suspect)
        self._tenants = Tenants(config, self._metrics.clamped)
        self._prompts = PromptReader(
            self._hash_key(config),
            config.prompts.block_bytes,
            config.prompts.tokens_per_byte,
            self._metrics.estimate_error,
        )
        self._gateway = Gateway(
            self._brain,
            self._fleet,
            self._tenants,
            self._prompts,
            self._metrics,
            settings_of(config),
            clock=clock,
            rng=rng,
        )
        self._instances = InstanceMetrics(self._fleet, self._brain.cluster)
        self._metrics.add_source(self._of_instances)
        self._metrics.add_source(self._gauges)
        self._reloader = Reloader(file, config, self._apply)
        self._engine_context: ssl.SSLContext | None = None
        self._engine_stamp: Stamp | None = None
        self._server_context: ssl.SSLContext | None = None
        self._public: PublicServer | None = None
        self._admin: AdminServer | None = None
        self._admin_task: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._why_not_ready = "starting"
        self.public_port = 0
        """Where clients connect, once started."""
        self.admin_port = 0

    # --- life

    async def start(self) -> None:
        """Ask the engines how they are, then listen. Raises OSError, ConfigError."""
        config = self._config
        if config.listen.tls is not None:
            self._server_context = server_context(self._file, config.listen.tls)
        token_file = config.admin.token_file
        token = None if token_file is None else self._secret("admin.token_file", token_file)
        admin = socket.create_server(
            (config.admin.host, config.admin.port), family=_family(config.admin.host)
        )
        self.admin_port = admin.getsockname()[1]
        self._admin = AdminServer(AdminApp(self, token))
        self._admin_task = self._spawn(self._admin.serve(sockets=[admin]))
        self._apply(config)
        if self._discovery is not None:
            await self._discover(self._discovery)
        await self._watch.first_round(FIRST_ROUND_S)
        self._public, self.public_port = await serve_public(
            self._gateway,
            config.listen.host,
            config.listen.port,
            limits=settings_of(config).limits,
            timeouts=settings_of(config).client_timeouts,
            sweeper=self._sweeper,
            ssl_context=self._server_context,
        )
        self._spawn(self._tend())
        self._spawn(self._reloader.watch(lambda accepted: self._metrics.reloaded(accepted=accepted)))
        self._why_not_ready = ""
        log.info(
            "serving on %s:%d, admin on %s:%d",
            config.listen.host,
            self.public_port,
            config.admin.host,
            self.admin_port,
        )

    async def drain(self) -> None:
        """Stop being ready, then stop accepting, then let answers end within the grace time."""
        self._why_not_ready = "draining"
        config = self._reloader.config
        log.info("draining: %d requests under way", self._gateway.in_flight)
        await asyncio.sleep(config.drain_delay_s)
        if self._public is not None:
            await self._public.drain(config.drain_grace_s)

    async def stop(self) -> None:
        """Close everything, whatever is still under way."""
        self._why_not_ready = "stopped"
        if self._public is not None:
            await self._public.drain(0.0)
        await self._watch.close()
        self._fleet.close()
        self._sweeper.close()
        if self._admin is not None and self._admin_task is not None:
            self._admin.should_exit = True
            await self._admin_task
            self._admin = self._admin_task = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second one ends it at once. SIGHUP reads the file again."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        signals = {
            signal.SIGTERM: told.set,
            signal.SIGINT: told.set,
            signal.SIGHUP: lambda: self._spawn(self.reload()),
        }
        for number, act in signals.items():
            loop.add_signal_handler(number, act)
        try:
            # Until the cluster has told what there is, a signal ends the wait.
            await _unless(told.wait(), self.start())
            # What is loaded now stays: full collections need not look at it, which takes them 12 ms each.
            gc.collect()
            gc.freeze()
            await told.wait()
            told.clear()
            await _unless(told.wait(), self.drain())
        finally:
            await self.stop()
            for number in signals:
                loop.remove_signal_handler(number)

    # --- what the admin port shows and steers

    def ready(self) -> str:
        if self._why_not_ready and self._discovery is not None and self._discovery.trouble:
            return f"{self._why_not_ready}: {self._discovery.trouble}"
        return self._why_not_ready

    def discovered(self) -> dict[str, Any] | None:
        return None if self._discovery is None else self._discovery.report()

    async def metrics(self) -> bytes:
        return await self._metrics.exposition()

    def instances(self) -> list[dict[str, Any]]:
        return self._instances.listed(self._clock())

    def view(self) -> dict[str, Any]:
        return {
            "waiting": self._brain.waiting,
            "in_flight": self._gateway.in_flight,
            "instances": [
                {
                    "url": listed["url"],
                    "role": listed["role"],
                    "available": listed["available"],
                    **listed["placed"],
                }
                for listed in self.instances()
            ],
        }

    def config(self) -> dict[str, Any]:
        shown = merged(self._reloader.config, self._found).model_dump(mode="json")
        for tenant in shown["tenants"]:
            tenant["key_hashes"] = len(tenant["key_hashes"])
        return shown

    async def reload(self) -> str:
        problems = await self._reloader.reload()
        self._metrics.reloaded(accepted=not problems)
        return problems

    def drain_instance(self, url: str, *, draining: bool) -> bool:
        member = self._fleet.member(url)
        if member is None:
            return False
        self._fleet.drain(member, draining=draining)
        return True

    # --- what discovery needs

    def file(self) -> RouterConfig:
        return self._reloader.config

    def found(self, found: Found) -> None:
        self._put(merged(self._reloader.config, found), found)
        self._found = found

    # --- inside

    async def _discover(self, discovery: Discovers) -> None:
        """Until the cluster has told what there is to serve. Nobody can be served before."""
        self._why_not_ready = "the cluster has not told what there is to serve"
        self._spawn(discovery.follow())
        await discovery.synced()
        discovery.tell_now(self)
        self._spawn(discovery.tell(self))
        self._metrics.add_source(discovery.families)

    def _apply(self, config: RouterConfig) -> None:
        """Put a file's configuration into force. Raises ConfigError before anything has changed."""
        self._put(merged(config, self._found), self._found)
        if self._discovery is not None:
            self._discovery.reconsider()

    def _put(self, config: RouterConfig, found: Found) -> None:
        """Put a whole configuration into force. Raises ConfigError before anything has changed."""
        tls = config.engine_tls
        stamp = stamp_of([file for file in (tls.ca, tls.certificate, tls.key) if file is not None])
        context = self._engine_context
        if context is None or stamp != self._engine_stamp:
            context = engine_context(self._file, config)
        if self._server_context is not None and config.listen.tls is not None:
            listen = config.listen.tls
            load_certificate(self._file, self._server_context, "listen.tls", listen.certificate, listen.key)
        self._fleet.apply(config, context, found.pods)
        self._engine_context, self._engine_stamp = context, stamp
        settings = settings_of(config)
        logging.getLogger("pointsman").setLevel(config.log_level.upper())
        self._brain.rules = rules_of(config, self._in_force, self._brain.rules)
        served = [name for model in config.models for name in names_of(model)]
        if self._public is None or served != [n for model in self._in_force.models for n in names_of(model)]:
            log.info("models: %s", ", ".join(served) or "none yet")
        self._in_force = config
        self._metrics.add_models(model.name for model in config.models)
        self._tenants.apply(config)
        self._gateway.apply(settings)
        if self._public is not None:
            self._public.limits = settings.limits
            self._public.timeouts = settings.client_timeouts
        self._watch.apply(self._fleet, config)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            self._fleet.refresh()
            if self._brain.waiting:
                self._brain.reconsider()

    def _hash_key(self, config: RouterConfig) -> bytes:
        """Any file's content becomes a key of the right length."""
        file = config.prompts.hash_key_file
        if file is None:
            return secrets.token_bytes(HASH_KEY_BYTES)
        secret = self._secret("prompts.hash_key_file", file)
        return hashlib.blake2b(secret, digest_size=HASH_KEY_BYTES).digest()

    def _secret(self, path: str, file: Path) -> bytes:
        """What a file holds. Raises ConfigError when that is nothing: an empty secret would open every door."""
        secret = file.read_bytes().strip()
        if not secret:
            raise ConfigError(self._file, [Problem(path, f"{file} is empty")])
        return secret

    def _running_on(self, instance: InstanceId) -> int:
        slot = self._brain.cluster.slot_of(instance)
        return 0 if slot is None else int(self._brain.cluster.loads.running[slot])

    def _of_instances(self) -> Iterator[Metric]:
        models = [model.name for model in self._in_force.models]
        yield from self._instances.families(self._clock(), models, self._found.may_sleep)

    def _gauges(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "pointsman_requests_waiting", "Requests in the queue", value=self._brain.waiting
        )
        connections = 0 if self._public is None else self._public.connections
        yield GaugeMetricFamily("pointsman_client_connections", "Open client connections", value=connections)

        ratio = GaugeMetricFamily(
            "pointsman_tokens_per_byte", "As learned from what engines counted", labels=["model"]
        )
        for model in (*self._reloader.config.models, *self._found.models):
            ratio.add_metric([model.name], self._prompts.tokens_per_byte(model.name))
        yield ratio

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended, which is a bug", task.get_coro(), exc_info=error)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _unless(interrupted: Coroutine[Any, Any, Any], work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but give it up when interrupted."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(interrupted)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
