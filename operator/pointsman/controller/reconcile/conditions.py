"""Conditions: written on change only, with the time of the last change of status."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pointsman.api.resources.conditions import ConditionType
from pointsman.controller.reconcile.times import text

LONGEST_MESSAGE = 32768
"""Characters that the API server takes; what it says itself of an object can be longer."""
Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition as it should be now."""

    type: ConditionType
    status: Status
    reason: str
    message: str = ""


def as_conditions(
    verdicts: Iterable[Verdict], before: Sequence[Mapping[str, Any]], generation: int, now: float
) -> list[dict[str, Any]]:
    """What the status holds: a condition whose status is the same keeps the time of its last transition."""
    old = {condition.get("type"): condition for condition in before}
    conditions = []
    for verdict in verdicts:
        was = old.get(verdict.type.value)
        kept = was is not None and was.get("status") == verdict.status and was.get("lastTransitionTime")
        conditions.append(
            {
                "type": verdict.type.value,
                "status": verdict.status,
                "reason": verdict.reason,
                "message": verdict.message[:LONGEST_MESSAGE],
                "lastTransitionTime": kept or text(now),
                "observedGeneration": generation,
            }
        )
    return conditions


def condition_of(conditions: Sequence[Mapping[str, Any]], kind: ConditionType) -> Mapping[str, Any]:
    """Empty where there is none."""
    return next((c for c in conditions if c.get("type") == kind.value), {})
