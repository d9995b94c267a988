"""Sets of slots agree in all their forms, for few and for many."""

from hypothesis import given
from hypothesis import strategies as st
from librt.vecs import vec
from mypy_extensions import i64

from pointsman.core.placement.policy import extremes
from pointsman.core.slots import Slots, longer, vector

SETS = st.sets(st.integers(0, 300), max_size=200)


@given(SETS, SETS)
def test_within(one: set[int], other: set[int]) -> None:
    slots, others = Slots(sorted(one)), Slots(sorted(other))
    assert slots.within(others.bits).listed == sorted(one & other)
    assert slots.within(0).listed == []
    assert slots.vector.tolist() == slots.listed


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=200))
def test_extremes(values: list[int]) -> None:
    assert extremes(Slots(list(range(len(values)))), vec[i64](values)) == (min(values), max(values))


def test_a_vector_sees_what_changes_and_growing_copies() -> None:
    values = vec[i64]([1, 2])
    seen = vector(values)
    values[1] = 7
    assert seen.tolist() == [1, 7]
    assert list(longer(values, 4)) == [1, 7, 0, 0]
