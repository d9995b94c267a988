"""The engines this router knows: what each is, how to reach it, and whether placements may go there.

Facts come from configuration, life signs from health checks and from the requests themselves; everything together is
told to the view as InstanceSeen, InstanceHealth and InstanceLost. An engine that restarts at its address is
another instance.
"""

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pointsman.api.config_file import ConfigError, Problem
from pointsman.api.connector import Connector
from pointsman.api.router_config import InstanceConfig, ModelConfig, RouterConfig
from pointsman.core.breaker import Breaker, BreakerOptions, BreakerState
from pointsman.core.events import (
    EngineSample,
    Event,
    InstanceHealth,
    InstanceLost,
    InstanceRole,
    InstanceSeen,
)
from pointsman.core.instances import Capabilities, Instance, InstanceId, Role
from pointsman.http.client import Origin, Pool, Sweeper, parse_url
from pointsman.router.engine_metrics import EngineReport
from pointsman.router.settings import engine_timeouts

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Where events go: the Brain."""

    def record(self, event: Event) -> None: ...


@dataclass(slots=True)
class Upstream:
    """How to reach one instance."""

    id: InstanceId
    instance: Instance
    origin: Origin
    pool: Pool
    authorization: bytes | None
    """Value of the Authorization header for this engine."""
    connector: Connector
    bootstrap_host: str
    bootstrap_port: int
    engine_id: str = ""
    """As its bootstrap server calls it, for connectors that have one."""


@dataclass(slots=True, eq=False)
class Member:
    """One address and what is known of the engine there."""

    config: InstanceConfig
    upstream: Upstream
    breaker: Breaker
    pod: str = ""
    """UID of the pod it is in, where that is known: another pod at the address is another engine."""
    start: str | None = None
    """When the engine says it started; None: it does not say."""
    lives: int = 0
    """Restarts noticed without being told a start."""
    refused: bool = False
    """Whether it was seen dead since it was last seen alive."""
    healthy: bool = False
    draining: bool = False
    leaving: bool = False
    """No longer configured: to be forgotten once nothing runs there."""
    available: bool = False
    """What the view was told last."""
    last_resort: bool = False
    """Told along with it: that nothing but failed requests speaks against it."""
    why: str = "not checked yet"
    """Why it is not healthy."""
    sample: EngineSample | None = None
    """What it last said of itself."""

    @property
    def id(self) -> InstanceId:
        return self.upstream.id


@dataclass(frozen=True, slots=True)
class _Named:
    """An instance as the configuration wants it."""

    model: ModelConfig
    config: InstanceConfig
    authorization: bytes | None
    pod: str


class Fleet:
    """All instances. Every method is synchronous and cheap; what asks engines lives in `health`."""

    def __init__(
        self,
        recorder: Recorder,
        sweeper: Sweeper,
        running: Callable[[InstanceId], int],
        suspect: Callable[[str], None],
    ) -> None:
        """`running` tells how many requests an instance has; `suspect` hears addresses to be checked at once."""
        self._recorder = recorder
        self._sweeper = sweeper
        self._clock = sweeper.clock
        self._running = running
        self._suspect = suspect
        self._members: dict[str, Member] = {}
        self._by_id: dict[InstanceId, Member] = {}
        self._options = BreakerOptions()
        self._context: ssl.SSLContext | None = None

    # --- for the data path

    def upstream(self, instance: InstanceId) -> Upstream | None:
        """How to send one attempt to an instance; None: it is gone. While its breaker is half open, this is a probe."""
        member = self._by_id.get(instance)
        if member is None:
            return None
        if member.breaker.tripped:
            member.breaker.sent(self._clock())
            self._tell(member)
        return member.upstream

    def succeeded(self, instance: InstanceId) -> None:
        """An attempt was answered; errors that are the client's count as answers."""
        member = self._by_id.get(instance)
        if member is None:
            return
        tripped = member.breaker.tripped
        member.breaker.succeeded(self._clock())
        if tripped:
            self._tell(member)

    def failed(self, instance: InstanceId, failure: str) -> None:
        """An attempt failed and the instance is to blame: a `Failure`, or a word for the 5xx it answered."""
        member = self._by_id.get(instance)
        if member is None:
            return
        now_s = self._clock()
        before = member.breaker.state(now_s)
        member.breaker.failed(now_s)
        if before is not BreakerState.OPEN and member.breaker.state(now_s) is BreakerState.OPEN:
            log.warning("%s: breaker open after %s", instance.address, failure)
        self._tell(member)
        self._suspect(instance.address)

    # --- for those who watch the engines

    def members(self) -> Iterator[Member]:
        yield from self._members.values()

    def member(self, address: str) -> Member | None:
        return self._members.get(address)

    def alive(self, member: Member) -> None:
        """A health check passed."""
        if member.refused:
            member.refused = False
            if member.start is None:
                member.lives += 1
                self._rename(member, _epoch(member.pod, f"life-{member.lives}"))
        if not member.healthy:
            log.info("%s: healthy", member.id.address)
        member.healthy = True
        member.why = ""
        self._tell(member)

    def dead(self, member: Member, why: str, *, refused: bool) -> None:
        """Health checks failed; `refused`: nothing listens there, so the engine process itself is gone."""
        member.refused = member.refused or refused
        if member.healthy or member.why != why:
            log.warning("%s: not healthy: %s", member.id.address, why)
        member.healthy = False
        member.why = why
        self._tell(member)

    def reported(self, member: Member, report: EngineReport) -> None:
        """The engine's metrics were read."""
        if report.start is not None and report.start != member.start:
            first = member.start is None
            member.start = report.start
            member.refused = False
            if first and not member.available and not member.pod:
                self._rename(member, report.start)
            elif not first:
                log.warning("%s: restarted", member.id.address)
                self._rename(member, _epoch(member.pod, report.start))
        capacity = member.config.kv_capacity_tokens or report.kv_capacity_tokens or 0
        instance = member.upstream.instance
        if capacity and capacity != instance.kv_capacity_tokens:
            member.upstream.instance = replace(instance, kv_capacity_tokens=capacity)
            self._recorder.record(InstanceSeen(member.upstream.instance))
        member.sample = EngineSample(
            member.id,
            self._clock(),
            running=report.running,
            waiting=report.waiting,
            kv_used_share=report.kv_used_share,
            kv_capacity_tokens=report.kv_capacity_tokens,
        )
        self._recorder.record(member.sample)

    # --- for configuration and administration

    def apply(
        self, config: RouterConfig, context: ssl.SSLContext | None, pods: Mapping[str, str] | None = None
    ) -> None:
        """Make the fleet what the configuration says. What it no longer names drains, then leaves.

        `pods` has the UIDs of the pods at those urls that are pods'.
        Raises ConfigError for a key file that holds no key, before anything has changed.
        """
        named = {
            instance.url: _Named(
                model, instance, _authorization(instance.api_key_file), (pods or {}).get(instance.url, "")
            )
            for model in config.models
            for instance in model.instances
        }
        options = breaker_options(config)
        if options != self._options:
            self._options = options
            for known in self._members.values():
                known.breaker = Breaker(options, self._clock())
        timeouts = engine_timeouts(config.timeouts)
        for address, wanted in named.items():
            member = self._members.get(address)
            if member is not None and context is self._context:
                pool = member.upstream.pool
                pool.timeouts = timeouts
            else:
                pool = Pool(parse_url(address)[0], self._sweeper, timeouts=timeouts, ssl_context=context)
            if member is None:
                self._join(wanted, pool)
            else:
                self._change(member, wanted, pool)
        self._context = context
        for address, member in self._members.items():
            if address not in named and not member.leaving:
                log.info("%s: no longer configured, draining", address)
                member.leaving = True
                self._tell(member)
        self.refresh()

    def drain(self, member: Member, *, draining: bool) -> None:
        """Stop placing requests on an instance, or place them again. What runs there goes on."""
        member.draining = draining
        self._tell(member)

    def refresh(self) -> None:
        """What changes with time alone: open breakers become half open, drained instances leave. Call often."""
        for member in tuple(self._members.values()):
            if member.breaker.tripped:
                self._tell(member)
            if member.leaving and self._running(member.id) == 0:
                self._leave(member)

    def state(self, member: Member) -> BreakerState:
        """What a member's breaker lets through now."""
        return member.breaker.state(self._clock())

    def probes_in_s(self, member: Member) -> float | None:
        """Seconds until a member's breaker lets requests through again by itself; None: it does now, or will not."""
        now_s = self._clock()
        wakes_s = member.breaker.wakes_s(now_s)
        return None if wakes_s is None else wakes_s - now_s

    def close(self) -> None:
        for member in self._members.values():
            member.upstream.pool.close()

    def _join(self, wanted: _Named, pool: Pool) -> None:
        upstream = _upstream(InstanceId(wanted.config.url, wanted.pod), wanted, pool)
        member = Member(wanted.config, upstream, Breaker(self._options, self._clock()), wanted.pod)
        self._members[member.id.address] = member
        self._by_id[member.id] = member
        self._recorder.record(InstanceSeen(upstream.instance))

    def _change(self, member: Member, wanted: _Named, pool: Pool) -> None:
        """Other facts about the same engine. Requests under way keep the pool they have."""
        known = member.upstream
        if (
            wanted.config is member.config
            and wanted.pod == member.pod
            and pool is known.pool
            and wanted.authorization == known.authorization
            and wanted.model.name == known.instance.models[0]
            and not member.leaving
        ):
            return  # by far the most, whenever one pod among thousands has changed
        if wanted.pod != member.pod:
            self._replace(member, wanted.pod)
        learned = member.upstream.instance.kv_capacity_tokens
        member.config = wanted.config
        member.leaving = False
        upstream = _upstream(member.id, wanted, pool)
        upstream.engine_id = member.upstream.engine_id
        if not upstream.instance.kv_capacity_tokens:
            upstream.instance = replace(upstream.instance, kv_capacity_tokens=learned)
        before, member.upstream = member.upstream.instance, upstream
        if replace(before, role=upstream.instance.role) != upstream.instance:
            self._recorder.record(InstanceSeen(upstream.instance))
        elif before != upstream.instance:
            self._recorder.record(InstanceRole(member.id, upstream.instance.role))
        self._tell(member)

    def _replace(self, member: Member, pod: str) -> None:
        """Another pod got the address: nothing that was known of the engine holds."""
        member.pod, member.start, member.sample = pod, None, None
        member.healthy = member.refused = False
        member.why = "not checked yet"
        self._rename(member, pod)
        self._suspect(member.id.address)

    def _rename(self, member: Member, epoch: str) -> None:
        """Another engine process at the same address: whatever ran or was cached there is gone."""
        self._by_id.pop(member.id, None)
        self._recorder.record(InstanceLost(member.id))
        identity = InstanceId(member.id.address, epoch)
        member.upstream = replace(
            member.upstream,
            id=identity,
            instance=replace(member.upstream.instance, id=identity),
            engine_id="",
        )
        member.breaker = Breaker(self._options, self._clock())
        member.available = member.last_resort = False
        self._by_id[identity] = member
        self._recorder.record(InstanceSeen(member.upstream.instance))
        self._tell(member)

    def _leave(self, member: Member) -> None:
        del self._members[member.id.address]
        self._by_id.pop(member.id, None)
        self._recorder.record(InstanceLost(member.id))
        member.upstream.pool.close()
        log.info("%s: left", member.id.address)

    def _tell(self, member: Member) -> None:
        """Let the view know if the answer to "may placements go there" has changed."""
        usable = member.healthy and not member.draining and not member.leaving
        available = usable and member.breaker.admits(self._clock())
        last_resort = usable and not available
        if available != member.available or last_resort != member.last_resort:
            member.available, member.last_resort = available, last_resort
            self._recorder.record(InstanceHealth(member.id, available, last_resort))


def breaker_options(config: RouterConfig) -> BreakerOptions:
    breaker = config.breaker
    return BreakerOptions(
        failures=breaker.failures,
        failed_share=breaker.failed_share,
        half_life_s=breaker.half_life_s,
        open_s=breaker.open_s,
        max_open_s=breaker.max_open_s,
        probes=breaker.probes,
        recoveries=breaker.recoveries,
    )


def _epoch(pod: str, process: str) -> str:
    """What tells an engine from others at its address: its pod, where it has one, and its start."""
    return f"{pod}/{process}" if pod else process


def _authorization(file: Path | None) -> bytes | None:
    """The header's value for the key in a file. Raises ConfigError."""
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, [Problem("", f"cannot be read: {error}")]) from error
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(file, [Problem("", "must hold a key: one line of printable ASCII without spaces")])
    return f"Bearer {key}".encode()


def _upstream(identity: InstanceId, wanted: _Named, pool: Pool) -> Upstream:
    config = wanted.config
    return Upstream(
        id=identity,
        instance=Instance(
            id=identity,
            models=(wanted.model.name, *config.adapters),
            role=config.role,
            pool=config.pool or config.role.value,
            capabilities=capabilities(config),
            kv_capacity_tokens=config.kv_capacity_tokens,
            max_running=config.max_running,
        ),
        origin=pool.origin,
        pool=pool,
        authorization=wanted.authorization,
        connector=config.connector,
        bootstrap_host=config.bootstrap_host or pool.origin.host,
        bootstrap_port=config.bootstrap_port,
    )


def capabilities(config: InstanceConfig) -> Capabilities:
    """What connector and role imply, where the configuration does not say otherwise.

    Late decode needs a decode instance that pulls (NIXL); Mooncake and SGLang start both legs at once, and SGLang's
    decode instances cannot prefill.
    """
    given = config.capabilities
    pulls = config.connector is Connector.NIXL
    splits = config.connector is not Connector.NONE
    alone = not (config.connector is Connector.SGLANG and config.role is Role.DECODE)
    return Capabilities(
        local_prefill=alone if given.local_prefill is None else given.local_prefill,
        late_decode=pulls if given.late_decode is None else given.late_decode,
        kv_handle=pulls if given.kv_handle is None else given.kv_handle,
        transfer_group=(config.connector.value if splits else "")
        if given.transfer_group is None
        else given.transfer_group,
        replay_exact=bool(given.replay_exact),
    )
