"""The highest rate that a cluster bears, and the cluster that bears most. Few simulations: who cannot win is tried once."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

WITHIN = 0.03
"""How near below the highest rate the search ends, as a share of it."""
STRIDE = 1.25
"""By what the rate rises or falls until it is between two that were tried."""
LOWEST_SHARE = 0.02
"""Of the first guess, where the search gives up: some limits cannot be met at any rate."""


def highest_rate(
    meets: Callable[[float], bool], guess: float, floor: float = 0.0, stride: float = STRIDE
) -> float:
    """The highest rate that `meets` the limits, found from `guess` within 3%; 0 if it does not exceed `floor` by that."""
    if floor:
        guess = floor * (1 + WITHIN)
    low = high = guess
    if meets(guess):
        while meets(high := high * stride):
            low = high
    elif floor:
        return 0.0
    else:
        while not meets(low := low / stride):
            high = low
            if low < guess * LOWEST_SHARE:
                return 0.0
    while high > low * (1 + WITHIN):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if meets(middle) else (low, middle)
    return low


class Found(NamedTuple):
    """A place on a line of choices and what it bears."""

    place: int
    rate: float


def best_place(
    places: Sequence[int], among: range, rate_of: Callable[[int, float], float], steps: Iterable[int]
) -> Found:
    """The best of `places`, then of what lies around it `among` all, nearer with each step.

    `rate_of(place, floor)` is a place's rate if it exceeds `floor`, else 0. Takes it that rates rise up to the best place
    and fall behind it.
    """
    best = Found(places[0], 0.0)
    tried: set[int] = set()

    def look_at(candidates: Iterable[int]) -> None:
        nonlocal best
        for place in candidates:
            if place in tried or place not in among:
                continue
            tried.add(place)
            rate = rate_of(place, best.rate)
            if rate > best.rate:
                best = Found(place, rate)

    middle = places[len(places) // 2]
    look_at(
        sorted(places, key=lambda place: abs(place - middle))
    )  # a good one early spares the others a search
    for step in steps:
        centre = -1
        while centre != best.place:
            centre = best.place
            look_at((centre - step, centre + step))
    return best
