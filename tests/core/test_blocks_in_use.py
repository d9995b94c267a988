"""Blocks that running requests share are held once."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.blocks_in_use import BlocksInUse
from pointsman.core.prefix import PrefixIndex
from pointsman.core.slots import Levels


def by_slot(levels: Levels) -> dict[int, int]:
    return {slot: depth for depth, slots in levels for slot in slots}


def test_what_two_requests_share_is_a_repeat_until_one_of_them_has_ended() -> None:
    blocks = BlocksInUse(2)
    seen = []
    for change, slot, hashes in (
        (blocks.add, 0, (1, 2, 3)),
        (blocks.add, 0, (1, 2, 9)),
        (blocks.add, 1, (1, 2, 3)),
        (blocks.remove, 0, (1, 2, 3)),
        (blocks.remove, 0, (1, 2, 9)),
    ):
        change(slot, hashes)
        seen.append((list(blocks.repeats), by_slot(blocks.levels((1, 2, 3), 0b11))))
    assert seen == [
        ([0, 0], {0: 3}),
        ([2, 0], {0: 3}),
        ([2, 0], {0: 3, 1: 3}),
        ([0, 0], {0: 2, 1: 3}),
        ([0, 0], {1: 3}),
    ]


@given(st.integers(0, 2**32))
def test_it_counts_what_each_slot_holds_more_than_once(seed: int) -> None:
    rng = Random(seed)
    blocks = BlocksInUse(3)
    held = [Counter[int]() for _ in range(3)]
    running: list[tuple[int, list[int]]] = []
    for _ in range(rng.randrange(60)):
        if running and rng.random() < 0.4:
            slot, hashes = running.pop(rng.randrange(len(running)))
            blocks.remove(slot, hashes)
            held[slot].subtract(hashes)
        else:
            slot, hashes = rng.randrange(3), rng.sample(range(6), rng.randrange(6))
            running.append((slot, hashes))
            blocks.add(slot, hashes)
            held[slot].update(hashes)
        assert list(blocks.repeats) == [sum(max(0, n - 1) for n in counts.values()) for counts in held]
    for slot, hashes in running:
        blocks.remove(slot, hashes)
    assert list(blocks.repeats) == [0, 0, 0]
    assert blocks.levels(range(6), 0b111) == []


@given(st.integers(0, 2**32), st.integers(1, 100))
def test_depths_of_all_slots_are_what_each_holds(seed: int, slots: int) -> None:
    rng = Random(seed)
    index = PrefixIndex(slots)
    for _ in range(rng.randrange(20)):
        index.insert(rng.randrange(slots), range(rng.randrange(8)), 100)
        index.insert(rng.randrange(slots), (0, 1, 9), 100)
    among = rng.getrandbits(slots)
    expected = {slot: index.held(slot, range(8)) for slot in range(slots) if among >> slot & 1}
    assert by_slot(index.levels(range(8), among)) == {slot: held for slot, held in expected.items() if held}
