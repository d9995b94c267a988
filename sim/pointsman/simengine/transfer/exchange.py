"""An instance's transfers: what a job's part in one means for the engine and for the answer."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from xxhash import xxh3_64_intdigest

from pointsman.core.units import to_ps
from pointsman.sim.engine import KvPull
from pointsman.simengine.errors import internal_error
from pointsman.simengine.histogram import Histogram
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.jobs import Job
from pointsman.simengine.options import KvConnector, KvLoadFailure
from pointsman.simengine.transfer.claims import Claim, ClaimError, claim, give_up
from pointsman.simengine.transfer.offers import Offer, OfferDesk
from pointsman.simengine.transfer.protocols import Part

_TIME_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)
_BYTE_BUCKETS = tuple(2 ** (10 + exponent) for exponent in range(1, 25, 2))
_DESCRIPTOR_BUCKETS = (10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10000, 20000, 50000)


@dataclass(slots=True)
class TransferMeasures:
    """For metrics; seconds are virtual."""

    seconds: Histogram = field(default_factory=lambda: Histogram(_TIME_BUCKETS))
    post_seconds: Histogram = field(default_factory=lambda: Histogram((0.001, *_TIME_BUCKETS)))
    descriptors: Histogram = field(default_factory=lambda: Histogram(_DESCRIPTOR_BUCKETS))
    bytes: Histogram = field(default_factory=lambda: Histogram(_BYTE_BUCKETS))
    failed: int = 0


class Exchange:
    """The instance's side of every transfer."""

    def __init__(self, instance: SimulatedInstance) -> None:
        self._instance = instance
        self._options = instance.options.transfer
        self.engine_id = str(uuid4())
        lease_s = instance.clock.real_s(to_ps(self._options.lease_s))
        self.desk = OfferDesk(instance.driver, self.engine_id, lease_s)
        self.measures = TransferMeasures()
        self.port = 0
        self.waiting_for_partner = 0
        self.waiting_to_be_fetched = 0
        self._known: set[str] = set()

    async def open(self) -> None:
        """Listen for other instances. Raises OSError."""
        self.port = await self.desk.open(self._options.host, self._options.port)

    async def close(self) -> None:
        await self.desk.close()

    async def begin(self, job: Job, part: Part) -> Claim | Offer | None:
        """Everything before the job's requests join the engine: wait for the other leg, claim the prompt's KV.
        Raises ApiError 500 when that fails and the instance is to fail then.
        """
        if part.gives:
            return await self._announce(job, part)
        if part.takes is None:
            return None
        run = job.runs[0]
        self._instance.pulling += 1
        try:
            got = await claim(part.takes, self._options.connect_timeout_s)
        except ClaimError as error:
            self.measures.failed += 1
            if self._options.load_failure is KvLoadFailure.FAIL:
                raise internal_error() from error
            return None
        finally:
            self._instance.pulling -= 1
        tokens = min(got.tokens, run.request.prompt_tokens)
        profile = self._instance.options.profile
        seconds = profile.transfer_s(tokens)
        if part.takes.engine_id not in self._known:
            seconds += self._options.handshake_s
            self._known.add(part.takes.engine_id or "")
        self.measures.seconds.observe(seconds)
        self.measures.post_seconds.observe(0.0)
        self.measures.bytes.observe(tokens * profile.kv_bytes_per_token)
        self.measures.descriptors.observe(-(-tokens // profile.block_size))
        run.request.pull = KvPull(tokens, to_ps(seconds))
        run.pull_tokens = tokens
        run.on_first_token = got.done
        return got

    async def _announce(self, job: Job, part: Part) -> Offer | None:
        for run in job.runs:
            run.request.hold_kv = True
        if part.key is None:
            return None
        offer = self.desk.announce(part.key)
        if part.meets:
            self.waiting_for_partner += 1
            try:
                await asyncio.wait_for(offer.claimed.wait(), self._options.partner_timeout_s)
            except TimeoutError:
                self.measures.failed += 1
                raise internal_error(
                    "The other leg of this disaggregated request did not come in time."
                ) from None
            finally:
                self.waiting_for_partner -= 1
                if not offer.claimed.is_set():
                    self.desk.withdraw(part.key)
        return offer

    async def ended(self, job: Job, part: Part, held: Claim | Offer | None) -> None:
        """A giving job's tokens are all there: its KV is on offer from now. A leg that meets another waits here
        until its KV was fetched.
        """
        run = job.runs[0]
        request_id = run.request.request_id
        if run.answer.ending.reason not in ("stop", "length"):
            return
        self.desk.give(part.key or request_id, request_id)
        if self._options.connector is KvConnector.NIXL:
            job.kv_params = self._nixl_params(request_id)
            if job.max_tokens == 1:
                job.kv_params["remote_prefill_cached_tokens"] = run.request.cached_tokens
        if part.meets and isinstance(held, Offer):
            self.waiting_to_be_fetched += 1
            try:
                await held.gone.wait()
            finally:
                self.waiting_to_be_fetched -= 1

    def end(self, part: Part, held: Claim | Offer | None) -> None:
        """The job is over, however it ended."""
        if isinstance(held, Claim):
            held.done()
        elif isinstance(held, Offer) and part.key is not None and not held.settled.is_set():
            self.desk.withdraw(part.key)

    async def refuse(self, part: Part) -> None:
        """The request was refused before it began: nobody will fetch its KV."""
        if part.takes is not None:
            await give_up(part.takes, self._options.connect_timeout_s)

    def _nixl_params(self, request_id: str) -> dict[str, Any]:
        """As vLLM's NixlConnector fills them. Block ids are made up: an engine loop that counts has none."""
        tokens = self._instance.engine.held_tokens(request_id) or 0
        blocks = -(-tokens // self._instance.options.profile.block_size)
        total = self._instance.stats().total_blocks
        first = xxh3_64_intdigest(request_id.encode()) % total
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[(first + block) % total for block in range(blocks)]],
            "remote_engine_id": self.engine_id,
            "remote_request_id": request_id,
            "remote_host": self._options.host,
            "remote_port": self.port,
            "tp_size": self._instance.options.profile.tensor_parallel,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": tokens,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
        }
