"""The arithmetic of scaling and rolling, in cases with names, and what holds for all of them."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.controller.reconcile.instances import Instance
from pointsman.controller.reconcile.steps import Steps, removal_order, steps


def instance(
    name: str, *, ready: bool = True, created: float = 0.0, running: int = 0, first: bool = False
) -> Instance:
    return Instance(
        workload={"metadata": {"name": name}},
        name=name,
        uid=f"uid-{name}",
        revision="r",
        created_s=created,
        ready=ready,
        ready_since_s=1.0 if ready else 0.0,
        running=running,
        remove_first=first,
        orphan=False,
    )


class Case(NamedTuple):
    """Instances as words: capitals serve."""

    name: str
    current: str
    old: str
    replicas: int
    surge: int
    unavailable: int
    create: int
    remove: str


CASES = [
    Case("nothing there yet", "", "", 3, 1, 0, 3, ""),
    Case("all there", "AB", "", 2, 1, 0, 0, ""),
    Case("one too many: who does not serve goes", "AbC", "", 2, 1, 0, 0, "b"),
    Case("to zero", "AB", "", 0, 1, 0, 0, "AB"),
    Case("to zero amid a change", "A", "XY", 0, 1, 0, 0, "AXY"),
    Case("a change begins: one beyond", "", "XY", 2, 1, 0, 1, ""),
    Case("the new one is not ready: wait", "a", "XY", 2, 1, 0, 0, ""),
    Case("the new one serves: one old goes", "A", "XY", 2, 1, 0, 0, "X"),
    Case("half way: the next", "A", "X", 2, 1, 0, 1, ""),
    Case("all new, one old left", "AB", "X", 2, 1, 0, 0, "X"),
    Case("in place: first out, then in", "", "XY", 2, 0, 1, 0, "X"),
    Case("in place: the gap is filled", "", "X", 2, 0, 1, 1, ""),
    Case("in place: not ready yet, wait", "a", "X", 2, 0, 1, 0, ""),
    Case("an old one that does not serve goes first", "A", "Xy", 2, 1, 0, 0, "y"),
    Case("back from what never worked", "XY", "a", 2, 1, 0, 0, "a"),
    Case("all quiet at once: only as many go as may be missing", "", "xyz", 3, 1, 0, 1, ""),
    Case("all quiet at once, a new one serves: one goes", "A", "xyz", 3, 1, 0, 0, "x"),
    Case("growing amid a change", "A", "XY", 4, 1, 0, 2, ""),
    Case("shrinking amid a change", "A", "XYZ", 2, 1, 0, 0, "XY"),
    Case("two at a time", "", "WXYZ", 4, 2, 1, 2, "W"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(case: Case) -> None:
    found = steps(of(case.current), of(case.old), case.replicas, case.surge, case.unavailable)
    assert (found.create, "".join(i.name for i in found.remove)) == (case.create, case.remove)


def of(word: str) -> list[Instance]:
    return [instance(letter, ready=letter.isupper()) for letter in word]


def test_who_is_named_goes_first_then_who_does_not_serve_then_who_has_least_to_do_then_the_newest() -> None:
    order = [
        instance("named", first=True, running=9),
        instance("silent", ready=False, running=9),
        instance("idle", running=0),
        instance("new", running=5, created=2.0),
        instance("old", running=5, created=1.0),
    ]
    assert removal_order(reversed(order)) == order


sizes = st.integers(0, 5)


@given(
    st.lists(st.booleans(), max_size=6),
    st.lists(st.booleans(), max_size=6),
    sizes,
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_bounds_hold(new: list[bool], old: list[bool], replicas: int, surge: int, unavailable: int) -> None:
    current = [instance(f"new-{i}", ready=ready) for i, ready in enumerate(new)]
    others = [instance(f"old-{i}", ready=ready) for i, ready in enumerate(old)]
    found = steps(current, others, replicas, surge, unavailable)
    total = len(current) + len(others)
    serving = sum(i.ready for i in (*current, *others))
    left = serving - sum(i.ready for i in found.remove)
    assert len({i.name for i in found.remove}) == len(found.remove)
    if found.create:
        assert total + found.create <= replicas + (surge if others else 0)
    # What serves falls below the bound only where it was there before, and then no further.
    assert left >= min(serving, max(0, replicas - unavailable))
    assert found.create + len(current) - sum(i in current for i in found.remove) <= max(
        replicas, len(current)
    )


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_a_change_always_ends_where_instances_become_ready(
    old: int, replicas: int, new: int, surge: int, unavailable: int
) -> None:
    if surge == unavailable == 0:
        unavailable = 1
    current = [instance(f"new-{i}") for i in range(new)]
    others = [instance(f"old-{i}") for i in range(old)]
    for turn in range(40):
        found = steps(current, others, replicas, surge, unavailable)
        if found == Steps(0, ()):
            break
        current = [i for i in current if i not in found.remove]
        others = [i for i in others if i not in found.remove]
        current += [instance(f"made-{turn}-{i}") for i in range(found.create)]
    assert (len(current), len(others)) == (replicas, 0)
