"""The seam every placement policy is written against."""

from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointsman.core.requests import RequestView
from pointsman.core.slots import IntArray, Levels, PerSlot, Slots, vector
from pointsman.core.view import ClusterView, Stage

Costs: TypeAlias = "list[float] | NDArray[np.float64]"
"""Of some slots, in their order: a list where they are few."""


@dataclass(init=False, slots=True)
class Pick:
    """The chosen slot, its cost in the policy's own unit (lower is better), and why, for a person."""

    slot: int
    cost: float
    why: str

    def __init__(self, slot: int, cost: float, why: str) -> None:
        self.slot = slot
        self.cost = cost
        self.why = why


class Policy(Protocol):
    """A pure rule. All it knows comes in through `pick`; its attributes are the parameters it was made with, never state.

    Implementations are plain classes with `Final` attributes, which mypyc can compile, as it cannot a frozen dataclass
    with a class variable. One that never looks at context tokens may say `reads_progress: Final = False`: a simulation
    then need not tell it every second how far each answer is.
    """

    @property
    def name(self) -> str: ...

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        """One of `slots` (never empty)."""


def cheapest(slots: Slots, costs: PerSlot, rng: Random) -> tuple[int, int]:
    """Slot and cost of a cheapest candidate; ties are broken at random, so that equals share the load."""
    listed = slots.listed
    if slots.few:
        least = costs[listed[0]]
        ties: list[int] = []
        for slot in listed:
            cost = costs[slot]
            if cost < least:
                least, ties = cost, [slot]
            elif cost == least:
                ties.append(slot)
    else:
        of_each = vector(costs)[slots.vector]
        least = int(of_each.min())
        ties = slots.vector[of_each == least].tolist()
    return ties[int(rng.random() * len(ties)) if len(ties) > 1 else 0], least


def cheapest_of(slots: Slots, costs: Costs, rng: Random) -> tuple[int, float]:
    """The same with the costs of `slots`, in their order."""
    ties: list[int] = []
    if isinstance(costs, list):
        listed = slots.listed
        least = costs[0]
        for place, cost in enumerate(costs):
            if cost < least:
                least, ties = cost, [listed[place]]
            elif cost == least:
                ties.append(listed[place])
    else:
        least = float(costs.min())
        ties = slots.vector[costs == least].tolist()
    return ties[int(rng.random() * len(ties)) if len(ties) > 1 else 0], least


def extremes(slots: Slots, values: PerSlot) -> tuple[int, int]:
    """The smallest and the largest of some slots' values."""
    if slots.few:
        least = most = values[slots.listed[0]]
        for slot in slots.listed:
            value = values[slot]
            if value < least:
                least = value
            elif value > most:
                most = value
        return least, most
    vectored = vector(values)[slots.vector]
    return int(vectored.min()), int(vectored.max())


def cached_tokens(view: ClusterView, request: RequestView, slot: int) -> int:
    """Tokens of the prompt that the index holds for a slot."""
    if not request.block_hashes:
        return 0
    return min(request.prompt_tokens, view.prefixes.held(slot, request.block_hashes) * request.block_tokens)


def kv_tokens(view: ClusterView, slots: Slots, block_tokens: int) -> IntArray:
    """KV tokens that the requests placed on each of `slots` hold, or will: what several hold together lies there once, as
    far as blocks of `block_tokens` tell (0: not at all).
    """
    loads, chosen = view.loads, slots.vector
    held = vector(loads.prefill_tokens)[chosen] + vector(loads.context_tokens)[chosen]
    return held - block_tokens * vector(view.in_use.repeats)[chosen] if block_tokens else held


def leading_tokens(levels: Levels, request: RequestView) -> dict[int, int]:
    """Tokens of the prompt in the leading blocks that slots have, at most all; slots that have none are left out."""
    found: dict[int, int] = {}
    for blocks, slots in levels:
        tokens = min(request.prompt_tokens, blocks * request.block_tokens)
        for slot in slots:
            found[slot] = tokens
    return found


def spread_tokens(levels: Levels, view: ClusterView, request: RequestView, slots: Slots) -> IntArray:
    """The same of each of `slots`, in their order."""
    tokens = np.zeros(len(view.loads.running), np.int64)
    for blocks, which in levels:
        tokens[which] = min(request.prompt_tokens, blocks * request.block_tokens)
    return tokens[slots.vector]


def outstanding_tokens(view: ClusterView, slots: Slots) -> Costs:
    """Tokens placed on each of `slots`: prompts still to compute, and contexts being decoded."""
    prefill, context = view.loads.prefill_tokens, view.loads.context_tokens
    if slots.few:
        return [float(prefill[slot] + context[slot]) for slot in slots.listed]
    chosen = slots.vector
    return (vector(prefill)[chosen] + vector(context)[chosen]).astype(np.float64)
