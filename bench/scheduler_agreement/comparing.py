"""One life lived by both schedulers, step by step."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scheduler_agreement.lives import Life
from scheduler_agreement.sides import Ours, Step, Theirs

MOST_EMPTY_STEPS = 10
"""In a row; after so many with work left, the two hang."""


@dataclass
class BothSides:
    """A number of each."""

    theirs: float = 0
    ours: float = 0


@dataclass
class Agreement:
    """What came of a life."""

    life: str
    requests: int
    iterations: int = 0
    first_difference: dict[str, Any] | None = None
    """Where they scheduled differently; from there on the two live different lives, so that nothing more is compared."""
    different_hits: int = 0
    """Requests of which not the same part was found in the prefix cache."""
    unfinished: bool = False
    prompt_tokens: int = 0
    hit_tokens: int = 0
    most_running: int = 0
    preemptions: BothSides = field(default_factory=BothSides)
    seconds: BothSides = field(default_factory=BothSides)

    @property
    def differs(self) -> bool:
        preempted_alike = self.preemptions.theirs == self.preemptions.ours
        return bool(self.first_difference or self.different_hits or self.unfinished or not preempted_alike)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "differs": self.differs}


def compare(life: Life, model: str) -> Agreement:
    """Lives it to its end, or to the first iteration that differs."""
    theirs, ours = Theirs(life, model), Ours(life)
    found = Agreement(life.name, len(life.asked), prompt_tokens=sum(one.prompt for one in life.asked))
    pending = list(reversed(life.asked))
    empty = 0
    while pending or theirs.has_work() or ours.has_work():
        if life.timed and pending and not ours.has_work():
            ours.now_ps = max(ours.now_ps, pending[-1].at)
        now = ours.now_ps if life.timed else found.iterations
        while pending and pending[-1].at <= now:
            asked = pending.pop()
            theirs.add(asked)
            ours.add(asked)
        their_step, our_step = _steps(theirs, ours, found.seconds)
        if their_step != our_step:
            found.first_difference = {
                "iteration": found.iterations,
                "theirs": their_step,
                "ours": our_step,
            }
            break
        found.iterations += 1
        found.most_running = max(found.most_running, len(our_step))
        empty = 0 if their_step or pending else empty + 1
        if empty > MOST_EMPTY_STEPS:
            found.unfinished = True
            break
    hits = ours.hits
    found.different_hits = sum(theirs.hits.get(name) != tokens for name, tokens in hits.items())
    found.hit_tokens = sum(hits.values())
    found.preemptions = BothSides(theirs.preempted, ours.preempted)
    return found


def _steps(theirs: Theirs, ours: Ours, seconds: BothSides) -> tuple[Step, Step]:
    start_s = time.perf_counter()
    their_step = theirs.step()
    middle_s = time.perf_counter()
    our_step = ours.step()
    seconds.theirs += middle_s - start_s
    seconds.ours += time.perf_counter() - middle_s
    return their_step, our_step


def total(found: Sequence[Agreement]) -> dict[str, Any]:
    """Sums over lives."""

    def sides(name: str) -> dict[str, float]:
        return {
            side: round(sum(getattr(getattr(one, name), side) for one in found), 3)
            for side in ("theirs", "ours")
        }

    return {
        "lives": len(found),
        "lives_that_differ": sum(one.differs for one in found),
        "requests": sum(one.requests for one in found),
        "iterations_compared": sum(one.iterations for one in found),
        "preemptions": sides("preemptions"),
        "prefix_hit_tokens": sum(one.hit_tokens for one in found),
        "seconds": sides("seconds"),
    }
