"""The seam every placement policy is written against."""

from dataclasses import dataclass
from random import Random
from typing import Protocol

from pointsman.core.requests import RequestView
from pointsman.core.view import ClusterView, IntArray, Stage


@dataclass(slots=True)
class Pick:
    """The chosen slot, its cost in the policy's own unit (lower is better), and why, for a person."""

    slot: int
    cost: float
    why: str


class Policy(Protocol):
    """A pure rule. All it knows comes in through `pick`; its own fields are parameters, never state."""

    @property
    def name(self) -> str: ...

    def pick(
        self, view: ClusterView, request: RequestView, slots: IntArray, stage: Stage, rng: Random
    ) -> Pick:
        """One of `slots` (never empty)."""


def cheapest(slots: IntArray, cost: IntArray, rng: Random) -> tuple[int, int]:
    """Slot and cost of a cheapest candidate; ties are broken at random, so that equals share the load."""
    if len(slots) == 1:
        return int(slots[0]), int(cost[0])
    least = cost[cost.argmin()]
    ties = (cost == least).nonzero()[0]
    count = len(ties)
    best = ties[int(rng.random() * count)] if count > 1 else ties[0]
    return int(slots[best]), int(least)


def outstanding_tokens(view: ClusterView, slots: IntArray, stage: Stage) -> IntArray:
    """Tokens placed on each slot that matter to a stage: prompts still to compute, contexts being decoded."""
    if stage is Stage.ENTRY:
        return view.loads.prefill_tokens[slots]
    if stage is Stage.DECODE:
        return view.loads.context_tokens[slots]
    return view.loads.prefill_tokens[slots] + view.loads.context_tokens[slots]
