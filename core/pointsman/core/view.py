"""What a decision may read of the cluster. Instances are numbered by slot; loads are arrays over slots."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from pointsman.core.blocks_in_use import BlocksInUse
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.prefix import PrefixIndex
from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView
from pointsman.core.slots import PerSlot, Slots, longer, zeros

UNLIMITED = 2**63 - 1


class Stage(Enum):
    """Which part of a request a candidate would run."""

    WHOLE = auto()
    """Prefill and decode: mixed instances, and decode instances that may prefill."""
    ENTRY = auto()
    """Where a request that may be split begins: prefill and mixed instances."""
    DECODE = auto()


class Loads:
    """What is placed on each slot and not finished, from the routers' own records.

    running: requests; prefill_tokens: prompt tokens to compute, without those that were cached when the request was
    placed; context_tokens: KV tokens of requests that decode, or will once their prefill elsewhere has ended, and what
    was cached of prompts that are still computed here. So both together are the KV that is held, or will be.
    """

    __slots__ = ("context_tokens", "prefill_tokens", "running")

    def __init__(self, slots: int) -> None:
        self.running: PerSlot = zeros(slots)
        self.prefill_tokens: PerSlot = zeros(slots)
        self.context_tokens: PerSlot = zeros(slots)

    def copy(self) -> "Loads":
        twin = Loads(0)
        twin.grow_from(self, len(self.running))
        return twin

    def grow_from(self, other: "Loads", slots: int) -> None:
        """Take over what `other` holds, with room for `slots`."""
        self.running = longer(other.running, slots)
        self.prefill_tokens = longer(other.prefill_tokens, slots)
        self.context_tokens = longer(other.context_tokens, slots)

    def add(self, request: RequestView, prefill: int, decode: int, cached_tokens: int) -> None:
        """Account a placement; slot -1: none. `cached_tokens` of the prompt, at most all, need no computing."""
        tokens = request.prompt_tokens
        if prefill >= 0:
            self.running[prefill] += 1
            self.prefill_tokens[prefill] += tokens - cached_tokens
            if decode >= 0:
                self.running[decode] += 1
                self.context_tokens[decode] += tokens
        else:
            self.running[decode] += 1
            self.prefill_tokens[decode] += tokens - cached_tokens
            self.context_tokens[decode] += cached_tokens


class Group:
    """Available instances that could take one stage of a request."""

    __slots__ = ("caps", "one_transfer_group", "slots", "splits")

    def __init__(self, members: Mapping[int, Instance]) -> None:
        self.slots = Slots(list(members))
        self.caps: list[int] | None = None
        """Most requests each may run at once, or None when none is limited."""
        if any(instance.max_running for instance in members.values()):
            self.caps = [instance.max_running or UNLIMITED for instance in members.values()]
        self.one_transfer_group = len({i.capabilities.transfer_group for i in members.values()}) <= 1
        self.splits = any(instance.role is Role.PREFILL for instance in members.values())
        """Whether a prefill instance is among them."""

    def __len__(self) -> int:
        return len(self.slots)


class Candidates:
    """Who could serve a model now, by stage. Rebuilt only when an instance changes.

    Where the available instances cannot serve it, those that are out for failed requests alone count as well: that every
    one of them has gone bad is less likely than that something else made requests fail, and if they have, an attempt
    costs no more than a refusal. Envoy's panic threshold is the same thought; it begins at half of the hosts.
    """

    __slots__ = ("decode", "entry", "last_resort", "served", "whole")

    def __init__(
        self, available: Mapping[int, Instance], last_resort: Mapping[int, Instance], *, served: bool
    ) -> None:
        """`last_resort`: instances that are not available, though health checks say that they are alive."""
        self.served = served
        """Whether any instance, available or not, serves the model."""
        self._take(available)
        self.last_resort = bool(last_resort) and not self._can_serve()
        """Whether instances count that are not available."""
        if self.last_resort:
            self._take(dict(sorted({**available, **last_resort}.items())))

    def _take(self, members: Mapping[int, Instance]) -> None:
        self.whole = Group({slot: i for slot, i in members.items() if _runs_whole(i)})
        self.entry = Group({slot: i for slot, i in members.items() if i.role is not Role.DECODE})
        self.decode = Group({slot: i for slot, i in members.items() if i.role is Role.DECODE})

    def _can_serve(self) -> bool:
        return len(self.whole) > 0 or (self.entry.splits and len(self.decode) > 0)


def _runs_whole(instance: Instance) -> bool:
    return instance.role is Role.MIXED or (
        instance.role is Role.DECODE and instance.capabilities.local_prefill
    )


class ClusterView(ABC):
    """Read-only: decisions are values, and the fold over event records alone changes the cluster.

    A class that others inherit from and no protocol, since compiled decisions ask it directly then.
    """

    __slots__ = ("address_hashes", "in_use", "kv_capacities", "loads", "prefixes", "served")

    def __init__(
        self,
        loads: Loads,
        prefixes: PrefixIndex,
        in_use: BlocksInUse,
        kv_capacities: PerSlot,
        served: Served,
        address_hashes: NDArray[np.uint64],
    ) -> None:
        self.loads = loads
        self.prefixes = prefixes
        self.in_use = in_use
        self.kv_capacities = kv_capacities
        """Per slot the KV tokens that its instance can hold; 0: not known."""
        self.served = served
        """What tenants and programs were given."""
        self.address_hashes = address_hashes
        """Per slot a hash of the instance's address that is the same in every process."""

    @abstractmethod
    def candidates(self, model: str) -> Candidates: ...
    @abstractmethod
    def instance(self, slot: int) -> Instance: ...
    @abstractmethod
    def slot_of(self, instance: InstanceId) -> int | None: ...
    @abstractmethod
    def placed(self, model: str) -> int:
        """Requests of the model placed so far; the clock of rotating policies."""
