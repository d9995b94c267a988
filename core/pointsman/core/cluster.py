"""The cluster as one fold over event records. Everything a decision reads comes from here."""

from collections.abc import Iterator

import numpy as np

from pointsman.core.blocks_in_use import BlocksInUse
from pointsman.core.events import (
    DecodeChosen,
    EngineSample,
    Event,
    Finished,
    InstanceHealth,
    InstanceLost,
    InstanceRole,
    InstanceSeen,
    Placed,
    PrefillEnded,
    Progress,
)
from pointsman.core.instances import Instance, InstanceId
from pointsman.core.prefix import PrefixIndex
from pointsman.core.queueing.served import Served
from pointsman.core.rendezvous import stable_hash
from pointsman.core.requests import RequestView
from pointsman.core.slots import longer, zeros
from pointsman.core.view import Candidates, ClusterView, Loads

UNKNOWN_CAPACITY_TOKENS = 500_000
"""Prefix blocks are remembered for this many tokens where an engine's KV capacity is not known."""

MOST_PREFIX_BLOCKS = 1_000_000
"""Of all instances together, whatever their KV could hold: about 150 MB."""

FIRST_SLOTS = 8
"""Arrays begin with room for this many instances and double when it runs out."""

GONE = -1


class Placement:
    """Where a running request is, and what it is accounted with: per side the tokens to prefill, and the context."""

    __slots__ = ("context", "decode", "local_prompt", "output_tokens", "prefill", "remote_prompt", "request")

    def __init__(self, request: RequestView, prefill: int, decode: int, cached_tokens: int) -> None:
        self.request = request
        self.prefill = prefill
        self.decode = decode
        split = prefill != GONE
        uncached = request.prompt_tokens - cached_tokens
        self.remote_prompt = uncached if split else 0
        """Prompt tokens not computed yet on the prefill instance."""
        self.local_prompt = 0 if split else uncached
        """Prompt tokens not computed yet on the decode instance."""
        self.context = request.prompt_tokens if split else cached_tokens
        """Context tokens on the decode instance."""
        self.output_tokens = 0


class Cluster(ClusterView):
    """The view itself, changed only by `apply`.

    Events about instances or requests it does not know are ignored: with several writers a record may arrive
    after the one that made it pointless.
    """

    __slots__ = (
        "_available",
        "_candidates",
        "_free",
        "_instances",
        "_last_resort",
        "_placed",
        "_placements",
        "_samples",
        "_slots",
    )

    def __init__(self) -> None:
        super().__init__(
            Loads(FIRST_SLOTS),
            PrefixIndex(FIRST_SLOTS),
            BlocksInUse(FIRST_SLOTS),
            zeros(FIRST_SLOTS),
            Served(),
            np.zeros(FIRST_SLOTS, np.uint64),
        )
        self._instances: dict[int, Instance] = {}
        self._slots: dict[InstanceId, int] = {}
        self._free: list[int] = list(range(FIRST_SLOTS - 1, -1, -1))
        self._available: set[int] = set()
        self._last_resort: set[int] = set()
        self._samples: dict[int, EngineSample] = {}
        self._placements: dict[str, Placement] = {}
        self._placed: dict[str, int] = {}
        self._candidates: dict[str, Candidates] = {}

    # --- reading

    def candidates(self, model: str) -> Candidates:
        found = self._candidates.get(model)
        if found is None:
            serving = {slot: i for slot, i in sorted(self._instances.items()) if model in i.models}
            available = {slot: i for slot, i in serving.items() if slot in self._available}
            last_resort = {slot: i for slot, i in serving.items() if slot in self._last_resort}
            found = Candidates(available, last_resort, served=bool(serving))
            if serving:  # else any client could grow the memo with made-up names
                self._candidates[model] = found
        return found

    def instance(self, slot: int) -> Instance:
        return self._instances[slot]

    def slot_of(self, instance: InstanceId) -> int | None:
        return self._slots.get(instance)

    def placed(self, model: str) -> int:
        return self._placed.get(model, 0)

    def placement(self, request_id: str) -> Placement | None:
        return self._placements.get(request_id)

    def sample(self, instance: InstanceId, now_s: float, max_age_s: float) -> EngineSample | None:
        """What the engine last said of itself, unless that is older than `max_age_s`."""
        sample = self._samples.get(self._slots.get(instance, GONE))
        return sample if sample is not None and now_s - sample.at_s <= max_age_s else None

    def instances(self) -> Iterator[tuple[int, Instance, bool]]:
        """Slot, facts and availability of every instance."""
        for slot, instance in sorted(self._instances.items()):
            yield slot, instance, slot in self._available

    # --- folding

    def apply(self, event: Event) -> None:
        """Fold one record."""
        # Compiled, one test of a type after the other costs less than a look-up; the frequent ones come first.
        if isinstance(event, Placed):
            self._place(event)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, PrefillEnded):
            self._end_prefill(event)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, EngineSample):
            self._sampled(event)
        elif isinstance(event, DecodeChosen):
            self._choose_decode(event)
        elif isinstance(event, InstanceHealth):
            self._turn(event)
        elif isinstance(event, InstanceSeen):
            self._see(event)
        elif isinstance(event, InstanceRole):
            self._flip(event)
        else:
            self._lose(event)

    def _sampled(self, event: EngineSample) -> None:
        slot = self._slots.get(event.id)
        if slot is not None:
            self._samples[slot] = event

    def _turn(self, event: InstanceHealth) -> None:
        slot = self._slots.get(event.id)
        if slot is not None:
            (self._available.add if event.available else self._available.discard)(slot)
            suspected = event.last_resort and not event.available
            (self._last_resort.add if suspected else self._last_resort.discard)(slot)
            self._candidates.clear()

    def _place(self, event: Placed) -> None:
        request = event.request
        if request.request_id in self._placements:
            return
        prefill = self._slots.get(event.prefill, GONE) if event.prefill else GONE
        decode = self._slots.get(event.decode, GONE) if event.decode else GONE
        if prefill == GONE and decode == GONE:
            return
        cached = max(0, min(event.cached_tokens, request.prompt_tokens)) if event.cached_tokens else 0
        self._placements[request.request_id] = Placement(request, prefill, decode, cached)
        self._placed[request.model] = self._placed.get(request.model, 0) + 1
        self.loads.add(request, prefill, decode, cached)
        self.served.placed(request)
        if request.block_hashes:
            for slot in (prefill, decode):
                if slot != GONE:
                    self.prefixes.insert(slot, request.block_hashes, self._capacity_blocks(slot, request))
                    self.in_use.add(slot, request.block_hashes)

    def _capacity_blocks(self, slot: int, request: RequestView) -> int:
        tokens = self._instances[slot].kv_capacity_tokens or UNKNOWN_CAPACITY_TOKENS
        share = MOST_PREFIX_BLOCKS // len(self._instances)
        return max(1, min(tokens // max(1, request.block_tokens), share))

    def _end_prefill(self, event: PrefillEnded) -> None:
        placement = self._placements.get(event.request_id)
        if placement is None:
            return
        self._leave_prefill(placement)
        if placement.local_prompt:
            tokens, placement.local_prompt = placement.local_prompt, 0
            placement.context += tokens
            if placement.decode != GONE:
                self.loads.prefill_tokens[placement.decode] -= tokens
                self.loads.context_tokens[placement.decode] += tokens

    def _leave_prefill(self, placement: Placement) -> None:
        if placement.prefill != GONE:
            self.loads.running[placement.prefill] -= 1
            self.loads.prefill_tokens[placement.prefill] -= placement.remote_prompt
            if placement.request.block_hashes:
                self.in_use.remove(placement.prefill, placement.request.block_hashes)
            placement.prefill = GONE
        placement.remote_prompt = 0

    def _account_decode(self, placement: Placement, sign: int) -> None:
        slot = placement.decode
        if slot == GONE:
            return
        self.loads.running[slot] += sign
        self.loads.prefill_tokens[slot] += sign * placement.local_prompt
        self.loads.context_tokens[slot] += sign * placement.context
        hashes = placement.request.block_hashes
        if hashes:
            (self.in_use.add if sign > 0 else self.in_use.remove)(slot, hashes)

    def _choose_decode(self, event: DecodeChosen) -> None:
        placement = self._placements.get(event.request_id)
        if placement is not None:
            self._account_decode(placement, -1)
            placement.decode = self._slots.get(event.decode, GONE)
            self._account_decode(placement, 1)

    def _progress(self, event: Progress) -> None:
        placement = self._placements.get(event.request_id)
        if placement is None or event.output_tokens <= placement.output_tokens:
            return
        more = event.output_tokens - placement.output_tokens
        placement.output_tokens = event.output_tokens
        self.served.generated(placement.request, more)
        placement.context += more
        if placement.decode != GONE:
            self.loads.context_tokens[placement.decode] += more

    def _finish(self, event: Finished) -> None:
        placement = self._placements.pop(event.request_id, None)
        if placement is not None:
            self._leave_prefill(placement)
            self._account_decode(placement, -1)
            if event.output_tokens > placement.output_tokens:
                self.served.generated(placement.request, event.output_tokens - placement.output_tokens)

    def _see(self, event: InstanceSeen) -> None:
        instance = event.instance
        slot = self._slots.get(instance.id)
        if slot is None:
            slot = self._allot()
            self._slots[instance.id] = slot
            self.address_hashes[slot] = stable_hash(instance.id.address)
        self._instances[slot] = instance
        self.kv_capacities[slot] = instance.kv_capacity_tokens
        self._candidates.clear()

    def _allot(self) -> int:
        if not self._free:
            size = len(self.loads.running)
            self.loads.grow_from(self.loads, 2 * size)
            self.prefixes.grow(2 * size)
            self.in_use.grow(2 * size)
            self.kv_capacities = longer(self.kv_capacities, 2 * size)
            self.address_hashes = np.pad(self.address_hashes, (0, size))
            self._free = list(range(2 * size - 1, size - 1, -1))
        return self._free.pop()

    def _flip(self, event: InstanceRole) -> None:
        slot = self._slots.get(event.id)
        if slot is None:
            return
        old = self._instances[slot]
        self._instances[slot] = Instance(
            id=old.id,
            models=old.models,
            role=event.role,
            pool=old.pool,
            capabilities=old.capabilities,
            kv_capacity_tokens=old.kv_capacity_tokens,
            max_running=old.max_running,
        )
        self._candidates.clear()

    def _lose(self, event: InstanceLost) -> None:
        slot = self._slots.pop(event.id, None)
        if slot is None:
            return
        del self._instances[slot]
        self._available.discard(slot)
        self._last_resort.discard(slot)
        self._samples.pop(slot, None)
        self._candidates.clear()
        self.prefixes.forget(slot)
        for placement in self._placements.values():
            # What is accounted on the other side stays until the request's writer says how it ended.
            for side in (placement.prefill, placement.decode):
                if side == slot:
                    self.in_use.remove(slot, placement.request.block_hashes)
            if placement.prefill == slot:
                placement.prefill = GONE
            if placement.decode == slot:
                placement.decode = GONE
        for load in (self.loads.running, self.loads.prefill_tokens, self.loads.context_tokens):
            load[slot] = 0
        self._free.append(slot)
