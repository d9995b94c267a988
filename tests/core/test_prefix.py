"""The prefix index against a plain model of itself."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.prefix import EVERYONE, NO_MATCH, PrefixIndex


def test_longest_prefix_and_who_holds_it() -> None:
    index = PrefixIndex(64)
    index.insert(0, [1, 2, 3], 100)
    index.insert(5, [1, 2], 100)
    assert index.longest([1, 2, 3, 4], EVERYONE) == (3, 1 << 0)
    assert index.longest([1, 2, 9], EVERYONE) == (2, 1 << 0 | 1 << 5)
    assert index.longest([1, 2, 3], 1 << 5) == (2, 1 << 5)
    assert index.longest([9], EVERYONE) is NO_MATCH
    assert index.longest([], EVERYONE) is NO_MATCH


def test_the_tail_of_the_least_recently_used_chain_goes_first() -> None:
    index = PrefixIndex(64)
    index.insert(0, [1, 2, 3], 4)
    index.insert(0, [7, 8], 4)
    assert index.held(0, [1, 2, 3]) == 2
    assert index.held(0, [7, 8]) == 2


def test_a_lost_instance_is_forgotten() -> None:
    index = PrefixIndex(64)
    index.insert(0, [1, 2], 10)
    index.insert(1, [1], 10)
    index.forget(0)
    index.forget(3)
    assert index.longest([1, 2], EVERYONE) == (1, 1 << 1)
    assert index.sizes[0] == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True)),
        max_size=30,
    ),
    st.lists(st.integers(0, 20), max_size=6, unique=True),
    st.integers(1, 12),
)
def test_holders_and_blocks_agree(
    inserts: list[tuple[int, list[int]]], probe: list[int], capacity: int
) -> None:
    index = PrefixIndex(64)
    for slot, chain in inserts:
        index.insert(slot, chain, capacity)
    for slot in range(4):
        assert index.sizes[slot] <= capacity
        assert index.longest(probe, 1 << slot).blocks == index.held(slot, probe)
    assert index.longest(probe, EVERYONE).blocks == max(index.held(slot, probe) for slot in range(4))
