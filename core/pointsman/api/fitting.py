"""Fits the coefficients of an engine's iteration time to measured points (needs the `fit` extra: scipy).

Weighted non-negative least squares (Lawson and Hanson 1974) on relative errors: every point counts the same
whether it took 20 ms or 7 s. With points that mix the phases all coefficients are fitted at once (`fit_jointly`);
without them each phase is fitted by itself, and where its time bends is chosen by leave-one-out error among a few
knees (`fit`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pointsman.core.perf import Hinge, IterationCost, Slope
from pointsman.core.units import PS_PER_MS


class Point(NamedTuple):
    """One measured iteration."""

    prefill_tokens: int
    prefill_attention_x2: int
    """Sum over prompts of chunk * (2 * context before + chunk)."""
    decode_sequences: int
    decode_context_tokens: int
    time_ms: float
    prefill_chunks: int = 1
    """Prompts of which `prefill_tokens` are."""

    @property
    def phase(self) -> str:
        if not self.prefill_tokens:
            return "decode"
        return "mixed" if self.decode_sequences else "prefill"


@dataclass(frozen=True, slots=True)
class Knees:
    """Where an iteration's time may bend: prefill tokens and decode sequences."""

    prefill: tuple[int, ...] = ()
    decode: tuple[int, ...] = ()


SHORTEST_PS = 1
"""Of what every iteration costs: where points show nothing that all phases share, a profile still lets time pass."""


class FitError(ValueError):
    """The points do not determine a fit."""


@dataclass(frozen=True, slots=True)
class RelativeErrors:
    """Of predictions for points that the fit did not see, as shares of the measured time."""

    points: int
    median: float
    p90: float
    worst: float


def fit(points: Sequence[Point], knees: Knees, hinges_at_most: int = 2) -> IterationCost:
    """The cost with at most `hinges_at_most` hinges per phase that predicts points left out best.

    Raises FitError if a phase has fewer than three points, or if some mix the phases.
    """
    if mixed := sum(point.phase == "mixed" for point in points):
        raise FitError(f"{mixed} points mix the phases: a fit of each phase by itself takes none of these")
    prefill = [point for point in points if point.prefill_tokens]
    decode = [point for point in points if not point.prefill_tokens]
    if len(prefill) < 3 or len(decode) < 3:
        raise FitError(
            f"a fit needs three points of each phase; there are {len(prefill)} of prefill and {len(decode)} of decode"
        )
    prefill_base, prefill_per, ta_ps, tn_ps, prefill_hinges = _fit_phase(
        prefill, _prefill_terms, knees.prefill, hinges_at_most
    )
    decode_base, decode_per, tc_ps, _, decode_hinges = _fit_phase(
        decode, _decode_terms, knees.decode, hinges_at_most
    )
    # Without points that mix the phases, what both cost alike cannot be told from what each costs alone:
    # the larger share is taken as common, since an iteration reads the weights once.
    common = min(prefill_base, decode_base)
    return IterationCost(
        t0_ps=max(SHORTEST_PS, common),
        tp_ps=prefill_per,
        ta_ps=ta_ps,
        tb_ps=decode_per,
        tc_ps=tc_ps,
        t0p_ps=prefill_base - common,
        t0b_ps=decode_base - common,
        prefill_hinges=prefill_hinges,
        decode_hinges=decode_hinges,
        tn_ps=tn_ps,
    )


def left_out_errors(points: Sequence[Point], knees: Knees) -> dict[str, RelativeErrors]:
    """By phase, how well each point is predicted by a fit to all the others, choice of hinges included."""
    errors: dict[str, list[float]] = {"prefill": [], "decode": []}
    for index, point in enumerate(points):
        others = [*points[:index], *points[index + 1 :]]
        errors["prefill" if point.prefill_tokens else "decode"].append(
            relative_error(fit(others, knees), point)
        )
    return {phase: summarise(values) for phase, values in errors.items()}


TOKEN_KNEES = (0, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512, 1024, 2048, 4096)
"""Where an iteration's time may bend in the tokens of both phases together."""


FEWER_KNEES = ((0,), (0, 64), (0, 32, 128), (0, 16, 64, 256))
"""For points too few to bend everywhere."""


def fit_jointly(points: Sequence[Point], token_knees: Sequence[int] = TOKEN_KNEES) -> IterationCost:
    """The cost that fits points of all phases at once.

    Points that mix the phases tell what both share from what each costs alone.
    Raises FitError if there are fewer than three points of a phase, the mixed one included.
    """
    count = Counter(point.phase for point in points)
    if scarce := [phase for phase in ("prefill", "decode", "mixed") if count[phase] < 3]:
        raise FitError(
            f"a joint fit needs three points of each phase; there are fewer of {', '.join(scarce)}"
        )
    rows = np.array([_joint_row(point, token_knees) for point in points])
    times = np.array([point.time_ms for point in points])
    coefficients = [round(value) for value in _relative_nnls(rows, times) * PS_PER_MS]
    t0, t0p, t0b, tn, tp, ta, tb, tc = coefficients[:8]
    slopes = [Slope(*pair) for pair in zip(token_knees, coefficients[8:], strict=True)]
    return IterationCost(
        t0_ps=max(SHORTEST_PS, t0),
        tp_ps=tp,
        ta_ps=ta,
        tb_ps=tb,
        tc_ps=tc,
        t0p_ps=t0p,
        t0b_ps=t0b,
        tn_ps=tn,
        token_slopes=tuple(slopes) if any(slope.each_ps for slope in slopes) else (),
    )


def joint_errors(
    points: Sequence[Point], knees: Callable[[Sequence[Point]], Sequence[int]], folds: int = 5
) -> list[tuple[Point, float]]:
    """Each point with the relative error of a joint fit to the other folds, its knees chosen from these alone. Every phase
    is spread over all folds. Raises FitError.
    """
    spread = sorted(points, key=lambda point: point.phase)
    found = []
    for fold in range(folds):
        others = [point for place, point in enumerate(spread) if place % folds != fold]
        cost = fit_jointly(others, knees(others))
        found += [(point, relative_error(cost, point)) for point in spread[fold::folds]]
    return found


def best_token_knees(points: Sequence[Point]) -> Sequence[int]:
    """Of a few sets, the one with the least mean square of relative errors of points left out. Raises FitError."""

    def mean_square(knees: Sequence[int]) -> float:
        errors = [error for _, error in joint_errors(points, lambda _: knees)]
        return round(sum(error * error for error in errors) / len(errors), 6)

    # min keeps the first of equals, and fewer knees come first.
    return min((*FEWER_KNEES, TOKEN_KNEES), key=mean_square)


def _joint_row(point: Point, token_knees: Sequence[int]) -> list[float]:
    prefills, decodes = point.prefill_tokens > 0, point.decode_sequences > 0
    tokens = point.prefill_tokens + point.decode_sequences
    ends = [*token_knees[1:], tokens]
    return [
        1.0,
        prefills,
        decodes,
        point.prefill_chunks * prefills,
        point.prefill_tokens,
        point.prefill_attention_x2 / 2,
        point.decode_sequences,
        point.decode_context_tokens,
        *(max(0, min(tokens, end) - above) for above, end in zip(token_knees, ends, strict=True)),
    ]


def errors_by_phase(cost: IterationCost, points: Sequence[Point]) -> dict[str, RelativeErrors]:
    """How well points are predicted, by phase; they should be ones that the fit did not see."""
    errors: dict[str, list[float]] = {}
    for point in points:
        errors.setdefault(point.phase, []).append(relative_error(cost, point))
    return {phase: summarise(values) for phase, values in errors.items()}


def predicted_ms(cost: IterationCost, point: Point) -> float:
    return cost.iteration_ps(*point[:4], point.prefill_chunks) / PS_PER_MS


def relative_error(cost: IterationCost, point: Point) -> float:
    return abs(predicted_ms(cost, point) - point.time_ms) / point.time_ms


def summarise(errors: Sequence[float]) -> RelativeErrors:
    return RelativeErrors(
        points=len(errors),
        median=median(errors),
        p90=quantiles(errors, n=10, method="inclusive")[-1],
        worst=max(errors),
    )


# A phase is base + per*size + context_cost*context + each*prompts + sum of each*max(0, size - above).
_Terms = Callable[[Point], tuple[int, float, int]]


def _prefill_terms(point: Point) -> tuple[int, float, int]:
    return point.prefill_tokens, point.prefill_attention_x2 / 2, point.prefill_chunks


def _decode_terms(point: Point) -> tuple[int, float, int]:
    return point.decode_sequences, point.decode_context_tokens, 0


def _fit_phase(
    points: Sequence[Point], terms: _Terms, knees: tuple[int, ...], hinges_at_most: int
) -> tuple[int, int, int, int, tuple[Hinge, ...]]:
    candidates = [chosen for n in range(hinges_at_most + 1) for chosen in combinations(knees, n)]
    # min keeps the first of equals, and fewer hinges come first.
    chosen = min(candidates, key=lambda above: round(_leave_one_out(points, terms, above), 4))
    coefficients = [round(value) for value in _solve(points, terms, chosen) * PS_PER_MS]
    base, per, context, prompts = coefficients[:4]
    hinges = (Hinge(above, each) for above, each in zip(chosen, coefficients[4:], strict=True))
    return base, per, context, prompts, tuple(hinge for hinge in hinges if hinge.each_ps)


def _leave_one_out(points: Sequence[Point], terms: _Terms, above: tuple[int, ...]) -> float:
    """Root mean square of the relative errors of points left out one by one."""
    squares = []
    for index, point in enumerate(points):
        solution = _solve([*points[:index], *points[index + 1 :]], terms, above)
        predicted = float(_row(point, terms, above) @ solution)
        squares.append(((predicted - point.time_ms) / point.time_ms) ** 2)
    return float(np.sqrt(np.mean(squares)))


def _row(point: Point, terms: _Terms, above: tuple[int, ...]) -> NDArray[np.float64]:
    size, context, prompts = terms(point)
    return np.array([1.0, size, context, prompts, *(max(0, size - knee) for knee in above)])


def _solve(points: Sequence[Point], terms: _Terms, above: tuple[int, ...]) -> NDArray[np.float64]:
    """Coefficients in milliseconds."""
    rows = np.array([_row(point, terms, above) for point in points])
    return _relative_nnls(rows, np.array([point.time_ms for point in points]))


def _relative_nnls(rows: NDArray[np.float64], times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients >= 0 with the least sum of squared relative errors."""
    relative = rows / times_ms[:, np.newaxis]
    scale = np.maximum(relative.max(axis=0), np.finfo(float).tiny)
    solution = nnls(relative / scale, np.ones(len(times_ms)))[0]
    return np.asarray(solution / scale, dtype=np.float64)
