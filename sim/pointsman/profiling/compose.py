"""An engine profile from estimates or measurements: points, fit, errors on points it did not see, and where each number is from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pointsman.api.fitting import (
    FitError,
    Knees,
    Point,
    RelativeErrors,
    best_token_knees,
    errors_by_phase,
    fit,
    fit_jointly,
    joint_errors,
    left_out_errors,
    summarise,
)
from pointsman.api.profile import CostFile, EngineProfileFile, ErrorFile, ProvenanceFile
from pointsman.core.perf import AcceleratorClass
from pointsman.profiling.estimate import Estimator

FITTED, UNSEEN = 1, 2
"""Seeds of the points that are fitted, and of those that the fit does not see."""
OF_EACH_PHASE = 400
LEAST_OF_A_PHASE = 5
"""A fifth left out, and of the rest a fifth again, three are there to be fitted to."""
METHOD = (
    "non-negative least squares on relative errors over the form of pointsman.core.perf.IterationCost, all phases at "
    "once; coefficients rounded to picoseconds; errors are of as many points drawn anew, which the fit did not see"
)


@dataclass(frozen=True, slots=True)
class Given:
    """What who fits a profile says of it. Facts that are None are taken from another profile."""

    source: str
    licence: str
    facts: Mapping[str, Any]


def estimated_profile(
    name: str,
    estimator: Estimator,
    accelerator_class: AcceleratorClass,
    max_batched_tokens: int = 2048,
    max_sequences: int = 256,
) -> tuple[EngineProfileFile, list[Point]]:
    """The profile, and the points that its fit did not see. Raises EstimateError."""
    shape = estimator.shape
    points = estimator.points(FITTED, OF_EACH_PHASE)
    unseen = estimator.points(UNSEEN, OF_EACH_PHASE)
    cost = fit_jointly(points)
    kv = estimator.kv(max_batched_tokens, max_sequences)
    count = shape.tensor_parallel
    return EngineProfileFile(
        name=name,
        model=shape.model,
        engine=shape.backend,
        accelerator=shape.system,
        accelerator_class=accelerator_class,
        tensor_parallel=count,
        cost=CostFile.from_cost(cost),
        kv_capacity_tokens=kv.capacity_tokens,
        kv_bytes_per_token=kv.bytes_per_token,
        transfer_bytes_per_s=count * kv.link_bytes_per_s,
        max_batched_tokens=max_batched_tokens,
        max_sequences=max_sequences,
        provenance=ProvenanceFile(
            source=f"estimate, not a measurement of an engine: aiconfigurator {version('aiconfigurator')} composes "
            f"iterations of {shape.backend} {estimator.version} on {shape.system} (16-bit weights and KV) from kernels "
            "that NVIDIA measured; figures derived, no data of it included",
            licence="Apache-2.0",
            method=METHOD,
            points_used=len(points),
            left_out={phase: rounded(error) for phase, error in errors_by_phase(cost, unseen).items()},
            kv_capacity=f"aiconfigurator's estimate: 0.9 of the memory less weights, activations of "
            f"{max_batched_tokens} tokens and overheads",
            kv_bytes_per_token="from the model's configuration, over all accelerators of the instance",
            transfer="the vendor's figure of one accelerator's link to another node, times the accelerators; "
            "what a connector attains of it is not modelled",
            caveats=(
                "errors say how well the form holds the estimates, not how well the estimates hold an engine",
                "what the engine's host code costs is in it only as far as the kernels' measurements have it",
                "mixed iterations hold one prompt chunk without cached context",
            ),
        ),
    ), unseen


def fitted_profile(
    name: str, points: Sequence[Point], like: EngineProfileFile, given: Given
) -> EngineProfileFile:
    """A profile from measured points; what they do not tell is taken from `like`. Raises FitError."""
    mixed = sum(point.phase == "mixed" for point in points)
    if 0 < mixed < LEAST_OF_A_PHASE:
        raise FitError(
            f"there are {mixed} points that mix the phases: a joint fit with errors of points left out needs "
            f"{LEAST_OF_A_PHASE}, a fit of each phase by itself none"
        )
    if mixed:
        cost = fit_jointly(points, best_token_knees(points))
        errors = left_out_jointly(points)
        method = (
            "all phases at once, the knees of what tokens cost chosen by left-out error; errors are of fifths of the "
            "points left out in turn, choice of knees included"
        )
    else:
        knees = knees_within(points)
        cost = fit(points, knees)
        errors = left_out_errors(points, knees)
        method = "each phase by itself, hinges chosen by leave-one-out error; errors are of points left out one by one"
    facts = like.model_dump(exclude={"name", "cost", "provenance"})
    facts |= {key: value for key, value in given.facts.items() if value is not None}
    taken = sorted(set(facts) - {key for key, value in given.facts.items() if value is not None})
    return EngineProfileFile(
        name=name,
        cost=CostFile.from_cost(cost),
        provenance=ProvenanceFile(
            source=given.source,
            licence=given.licence,
            method=f"non-negative least squares on relative errors, {method}",
            points_used=len(points),
            left_out={phase: rounded(error) for phase, error in errors.items()},
            kv_capacity=_told(given, "kv_capacity_tokens", like.name),
            kv_bytes_per_token=_told(given, "kv_bytes_per_token", like.name),
            transfer=_told(given, "transfer_bytes_per_s", like.name),
            caveats=(f"taken from {like.name}: {', '.join(taken)}",),
        ),
        **facts,
    )


def knees_within(points: Sequence[Point]) -> Knees:
    """Where time may bend: powers of two strictly between the least and the most that was measured."""

    def between(sizes: Sequence[int], first: int) -> tuple[int, ...]:
        knees = [first << shift for shift in range(12)]
        return tuple(knee for knee in knees if sizes and min(sizes) < knee < max(sizes))[-6:]

    prefill = [point.prefill_tokens for point in points if point.phase == "prefill"]
    decode = [point.decode_sequences for point in points if point.phase == "decode"]
    return Knees(between(prefill, 64), between(decode, 4))


def left_out_jointly(points: Sequence[Point]) -> dict[str, RelativeErrors]:
    """By phase, how well points are predicted by a joint fit to the others, choice of knees included. Raises FitError."""
    errors: dict[str, list[float]] = {}
    for point, error in joint_errors(points, best_token_knees):
        errors.setdefault(point.phase, []).append(error)
    return {phase: summarise(values) for phase, values in errors.items()}


def _told(given: Given, fact: str, like: str) -> str:
    return f"taken from {like}" if given.facts.get(fact) is None else "given by who fitted it"


def rounded(error: RelativeErrors) -> ErrorFile:
    return ErrorFile(
        points=error.points,
        median=round(error.median, 4),
        p90=round(error.p90, 4),
        worst=round(error.worst, 4),
    )
