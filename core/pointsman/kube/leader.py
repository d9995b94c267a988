"""Takes part in an election for as long as it runs."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random

from pointsman.kube.client import ApiClient
from pointsman.kube.election import Election, Write
from pointsman.kube.errors import ConflictError, KubeError, NotFoundError
from pointsman.kube.pacing import jittered
from pointsman.kube.resource import LEASES, Key, Object

log = logging.getLogger(__name__)


def wall_time() -> str:
    """Now, as Lease and Event want it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Leader:
    """Runs `lead` while this process holds the Lease, and cancels it as soon as it may no longer.

    `lead` must end quickly when it is cancelled; that it ends by itself is an error of its own, which is raised.
    """

    def __init__(
        self,
        client: ApiClient,
        key: Key,
        election: Election,
        lead: Callable[[], Awaitable[None]],
        *,
        manager: str,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._client = client
        self._key = key
        self._election = election
        self._lead = lead
        self._manager = manager
        self._clock = clock
        self._rng = rng or Random()
        self.heard_s: float | None = None
        """When the Lease was last read or written."""

    @property
    def is_leader(self) -> bool:
        return self._election.leads(self._clock())

    async def run(self) -> None:
        """Until cancelled; then gives the Lease back, if it holds it."""
        work: asyncio.Future[None] | None = None
        try:
            while True:
                await self._take_part()
                if self.is_leader and work is None:
                    log.info("leading", extra={"lease": str(self._key)})
                    work = asyncio.ensure_future(self._lead())
                elif not self.is_leader and work is not None:
                    log.warning("no longer leading", extra={"lease": str(self._key)})
                    await _cancel(work)
                    work = None
                await self._wait(work)
        finally:
            if work is not None:
                await _cancel(work)
            await self._give_back()

    async def _wait(self, work: asyncio.Future[None] | None) -> None:
        pause_s = jittered(self._election.terms.retry_s, self._rng)
        if work is None:
            await asyncio.sleep(pause_s)
            return
        await asyncio.wait([work], timeout=pause_s)
        if work.done():
            work.result()
            raise RuntimeError("what the leader does has ended")

    async def _take_part(self) -> None:
        # Whoever leads must know in time that it does not: the answer is not waited for any longer.
        try:
            async with asyncio.timeout(self._election.terms.give_up_s - self._election.terms.retry_s):
                lease = await self._read()
                self._election.seen(lease, self._clock())
                write = self._election.next_write(self._clock(), wall_time())
                if write is not None:
                    asked_s = self._clock()
                    self._election.written(await self._write(write), asked_s)
                self.heard_s = self._clock()
        except ConflictError:
            log.debug("somebody else wrote the lease first")
        except (KubeError, TimeoutError) as error:
            log.warning("the lease %s cannot be renewed: %s", self._key, str(error) or "no answer in time")

    async def _give_back(self) -> None:
        if not self.is_leader:
            return
        try:
            # A renewal may have been under way when this one was cancelled: what it has written is not known here.
            self._election.seen(await self._read(), self._clock())
            write = self._election.release(wall_time())
            if write is not None:
                await self._write(write)
        except KubeError as error:
            log.warning("the lease %s cannot be given back: %s", self._key, error)

    async def _read(self) -> Object | None:
        try:
            return await self._client.get(LEASES, self._key.name, self._key.namespace)
        except NotFoundError:
            return None

    async def _write(self, write: Write) -> Object:
        if write.create:
            return await self._client.create(LEASES, write.lease, manager=self._manager)
        return await self._client.update(LEASES, write.lease, manager=self._manager)


async def _cancel(work: asyncio.Future[None]) -> None:
    work.cancel()
    try:
        await work
    except asyncio.CancelledError:
        if not work.cancelled():  # it is this task that is being cancelled
            raise
