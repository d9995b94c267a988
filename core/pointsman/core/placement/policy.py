"""The seam every placement policy is written against."""

from array import array
from dataclasses import dataclass
from random import Random
from typing import Protocol

from pointsman.core.requests import RequestView
from pointsman.core.slots import PerSlot, Slots, vector
from pointsman.core.view import ClusterView, Stage


@dataclass(slots=True)
class Pick:
    """The chosen slot, its cost in the policy's own unit (lower is better), and why, for a person."""

    slot: int
    cost: float
    why: str


class Policy(Protocol):
    """A pure rule. All it knows comes in through `pick`; its attributes are the parameters it was made with, never state.

    Implementations are plain classes with `Final` attributes, which mypyc can compile, as it cannot a frozen dataclass
    with a class variable.
    """

    @property
    def name(self) -> str: ...

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        """One of `slots` (never empty)."""


def cheapest(slots: Slots, costs: PerSlot, rng: Random) -> tuple[int, int]:
    """Slot and cost of a cheapest candidate; ties are broken at random, so that equals share the load."""
    listed = slots.listed
    if slots.few:
        least = min([costs[slot] for slot in listed])
        ties = [slot for slot in listed if costs[slot] == least]
    else:
        of_each = vector(costs)[slots.vector]
        least = int(of_each.min())
        ties = slots.vector[of_each == least].tolist()
    return ties[int(rng.random() * len(ties)) if len(ties) > 1 else 0], least


def extremes(slots: Slots, values: PerSlot) -> tuple[int, int]:
    """The smallest and the largest of some slots' values."""
    if slots.few:
        of_each = [values[slot] for slot in slots.listed]
        return min(of_each), max(of_each)
    vectored = vector(values)[slots.vector]
    return int(vectored.min()), int(vectored.max())


def outstanding_tokens(view: ClusterView, stage: Stage) -> PerSlot:
    """Tokens placed on each slot that matter to a stage: prompts still to compute, contexts being decoded."""
    loads = view.loads
    if stage is Stage.ENTRY:
        return loads.prefill_tokens
    if stage is Stage.DECODE:
        return loads.context_tokens
    both = vector(loads.prefill_tokens) + vector(loads.context_tokens)
    return array("q", both.tobytes())
