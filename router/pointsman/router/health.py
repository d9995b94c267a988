"""Asks every engine how it is: its health, and its own metrics.

One task per engine. A healthy one is checked at an interval and its metrics are read at another; one that fails is
checked less and less often; one whose requests fail is checked at once. Before placements go to an engine, the first
time or again, its metrics are read, because they tell whether it is still the same process.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from pointsman.api.connector import Connector
from pointsman.api.router_config import RouterConfig
from pointsman.api.traffic_config import HealthConfig, ScrapeConfig
from pointsman.core.instances import Role
from pointsman.http.client import ExchangeError, Failure, stream
from pointsman.router.connectors.bootstrap import NoEngineIdError, engine_id
from pointsman.router.engine_metrics import read_report
from pointsman.router.fleet import Fleet, Member

log = logging.getLogger(__name__)

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Of metrics; vLLM's are some 100 KB."""
LEAST_GAP_S = 0.25
"""Between two checks of one engine, however suspect."""
JITTER = 0.1
"""Share by which intervals vary, so that many engines are not asked all at once."""


class UnhealthyError(Exception):
    """A check failed; `gone`: no connection, so the process is gone, or was."""

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


@dataclass(slots=True, eq=False)
class _Watched:
    member: Member
    task: asyncio.Task[None] | None = None
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0


class Watch:
    """Keeps a fleet's knowledge of its engines fresh from `apply` until `close`."""

    def __init__(self, clock: Callable[[], float], rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._watched: dict[str, _Watched] = {}
        self._health = HealthConfig()
        self._scrape = ScrapeConfig()

    def suspect(self, address: str) -> None:
        """Check an engine at once."""
        watched = self._watched.get(address)
        if watched is not None:
            watched.suspected.set()

    def apply(self, fleet: Fleet, config: RouterConfig) -> None:
        """Watch the engines that the fleet has now, in this way."""
        self._health = config.health
        self._scrape = config.scrape
        members = {member.id.address: member for member in fleet.members()}
        for address in tuple(self._watched):
            if members.get(address) is not self._watched[address].member:
                self._forget(address)
        for address, member in members.items():
            if address not in self._watched:
                watched = _Watched(member)
                self._watched[address] = watched
                watched.task = asyncio.get_running_loop().create_task(self._watch(fleet, watched))
                watched.task.add_done_callback(_ended)

    async def first_round(self, timeout_s: float) -> None:
        """Until every engine was asked once, or the time is over."""
        waits = [watched.checked.wait() for watched in self._watched.values()]
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*waits)
        except TimeoutError:
            log.warning("not every engine has answered its first health check within %g s", timeout_s)

    async def close(self) -> None:
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for address in tuple(self._watched):
            self._forget(address)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, address: str) -> None:
        task = self._watched.pop(address).task
        if task is not None:
            task.cancel()

    async def _watch(self, fleet: Fleet, watched: _Watched) -> None:
        member = watched.member
        check_s = scrape_s = self._clock()
        while True:
            if member.leaving and fleet.member(member.id.address) is not member:
                del self._watched[member.id.address]
                return
            now_s = self._clock()
            if now_s >= check_s or watched.suspected.is_set():
                watched.suspected.clear()
                await self._check(fleet, watched)
                watched.checked.set()
                check_s = self._clock() + self._pause(watched.failures)
            elif now_s >= scrape_s:
                if member.healthy:
                    await self._read_metrics(fleet, member)
                scrape_s = self._clock() + self._varied(self._scrape.interval_s)
            else:
                await self._rest(watched, min(check_s, scrape_s) - now_s)

    async def _rest(self, watched: _Watched, seconds: float) -> None:
        """Until the time is over or the engine is suspected, but never less than the least gap."""
        await asyncio.sleep(min(seconds, LEAST_GAP_S))
        if seconds > LEAST_GAP_S and not watched.suspected.is_set():
            try:
                async with asyncio.timeout(seconds - LEAST_GAP_S):
                    await watched.suspected.wait()
            except TimeoutError:
                return

    def _pause(self, failures: int) -> float:
        """Until the next check: short while in doubt, then longer and longer."""
        interval_s = self._health.interval_s
        if 0 < failures < self._health.failures:
            return min(interval_s, LEAST_GAP_S)
        doublings = min(max(0, failures - self._health.failures), 10)
        return self._varied(min(interval_s * 2.0**doublings, max(interval_s, self._health.max_interval_s)))

    def _varied(self, seconds: float) -> float:
        return seconds * (1.0 + JITTER * (2.0 * self._rng.random() - 1.0))

    async def _check(self, fleet: Fleet, watched: _Watched) -> None:
        member = watched.member
        try:
            await self._ask_health(member)
        except UnhealthyError as error:
            watched.failures += 1
            if error.gone or watched.failures >= self._health.failures or not member.healthy:
                fleet.dead(member, str(error), refused=error.gone)
            return
        if not member.healthy:
            await self._read_metrics(fleet, member)
        if not await self._meet(fleet, member):
            return
        watched.failures = 0
        fleet.alive(member)

    async def _meet(self, fleet: Fleet, member: Member) -> bool:
        """Learn what others must know of an engine to exchange KV with it. False: it did not say."""
        config, upstream = member.config, member.upstream
        if config.connector is not Connector.MOONCAKE or config.role is Role.DECODE or upstream.engine_id:
            return True
        try:
            upstream.engine_id = await engine_id(
                upstream.bootstrap_host, upstream.bootstrap_port, self._health.timeout_s
            )
        except NoEngineIdError as error:
            fleet.dead(member, str(error), refused=False)
            return False
        return True

    async def _ask_health(self, member: Member) -> None:
        path, timeout_s = self._health.path, self._health.timeout_s
        try:
            status, _ = await _get(member, path, timeout_s)
        except TimeoutError:
            raise UnhealthyError(f"no answer to GET {path} within {timeout_s:g} s") from None
        except ExchangeError as error:
            gone = error.failure is Failure.CONNECT
            raise UnhealthyError(f"GET {path}: {error.failure}: {error}", gone=gone) from error
        if status == 404:
            raise UnhealthyError(f"404 to GET {path}: does health.path in the configuration fit this engine?")
        if not 200 <= status < 300:
            raise UnhealthyError(f"{status} to GET {path}")

    async def _read_metrics(self, fleet: Fleet, member: Member) -> None:
        """An engine without metrics, or one too busy for them now, is no worse for it: the last sample ages."""
        try:
            status, page = await _get(member, self._scrape.path, self._scrape.timeout_s)
        except (TimeoutError, ExchangeError) as error:
            log.debug("%s: metrics not read: %r", member.id.address, error)
            return
        if status == 200:
            fleet.reported(member, read_report(page))


async def _get(member: Member, path: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body, through the engine's own pool. Raises TimeoutError, ExchangeError."""
    upstream = member.upstream
    headers = [("authorization", upstream.authorization.decode())] if upstream.authorization else []
    page = bytearray()
    async with asyncio.timeout(timeout_s), stream(upstream.pool, "GET", path, headers=headers) as response:
        async for data in response:
            page += data
            if len(page) > MAX_PAGE_BYTES:
                raise ExchangeError(
                    Failure.TOO_LARGE, f"more than {MAX_PAGE_BYTES} bytes", response_started=True
                )
        return response.status, bytes(page)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("an engine is no longer watched, which is a bug", exc_info=error)
