"""What is due when: tables of named situations, then anything in any order."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.controller.queue import FAIR_TURN, Urgency, WorkQueue


@pytest.fixture
def queue() -> WorkQueue[str]:
    return WorkQueue(first_retry_s=1.0, last_retry_s=8.0, rng=Random(1))


def taken(queue: WorkQueue[str], now_s: float) -> str | None:
    found = queue.take(now_s)
    return None if found is None else found.item


def test_however_often_it_is_asked_for_it_is_done_once(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a", 0.0)
    assert taken(queue, 0.0) == "a"
    queue.done("a")
    assert taken(queue, 100.0) is None


def test_who_is_due_longest_comes_first(queue: WorkQueue[str]) -> None:
    queue.add("late", 2.0)
    queue.add("early", 1.0)
    assert taken(queue, 0.9) is None
    assert queue.next_due_s() == 1.0
    assert [taken(queue, 3.0), taken(queue, 3.0)] == ["early", "late"]


def test_an_earlier_wish_moves_it_and_a_later_one_does_not(queue: WorkQueue[str]) -> None:
    queue.add("a", 10.0)
    queue.add("a", 5.0)
    queue.add("a", 20.0)
    assert taken(queue, 5.0) == "a"
    queue.done("a")
    assert queue.next_due_s() is None


def test_asked_for_while_it_is_worked_on_it_is_due_again_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    assert taken(queue, 0.0) == "a"
    queue.add("a", 0.1)
    assert taken(queue, 1.0) is None  # nobody else gets it meanwhile
    queue.done("a")
    assert taken(queue, 1.0) == "a"


def test_failures_wait_longer_and_longer_and_a_success_forgets_them(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    for nominal_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert taken(queue, 1000.0) == "a"
        assert nominal_s / 2 <= queue.failed("a", 0.0) <= nominal_s
    assert queue.failures("a") == 5
    assert taken(queue, 1000.0) == "a"
    queue.done("a")
    assert queue.failures("a") == 0


def test_a_change_does_not_wait_for_the_next_try(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    queue.take(0.0)
    queue.failed("a", 0.0, at_least_s=100.0)
    assert queue.next_due_s() == 100.0
    queue.add("a", 1.0)
    assert taken(queue, 1.0) == "a"


def test_how_long_it_waited_and_how_many_wait(queue: WorkQueue[str]) -> None:
    queue.add("a", 1.0)
    queue.add("b", 9.0)
    assert (len(queue), queue.due(2.0)) == (2, 1)
    found = queue.take(4.0)
    assert found is not None
    assert found.waited_s == 3.0


def test_what_somebody_has_changed_goes_before_what_was_due_long_ago(queue: WorkQueue[str]) -> None:
    queue.add("every hour", 0.0, Urgency.ROUTINE)
    queue.add("new", 1.0, Urgency.TOLD)
    queue.add("changed", 2.0, Urgency.CHANGED)
    assert [taken(queue, 3.0) for _ in range(3)] == ["changed", "new", "every hour"]


def test_a_more_urgent_wish_counts_at_the_earlier_of_both_times(queue: WorkQueue[str]) -> None:
    queue.add("b", 1.0)
    queue.add("a", 2.0, Urgency.ROUTINE)
    queue.add("a", 9.0, Urgency.CHANGED)
    assert len(queue) == 2
    assert [taken(queue, 2.0), taken(queue, 2.0), taken(queue, 9.0)] == ["a", "b", None]


def test_urgency_lasts_while_it_is_worked_on(queue: WorkQueue[str]) -> None:
    queue.add("a", 0.0)
    queue.take(0.0)
    queue.add("b", 0.0)
    queue.add("a", 1.0, Urgency.CHANGED)
    queue.done("a")
    assert [taken(queue, 1.0), taken(queue, 1.0)] == ["a", "b"]


def test_nothing_waits_for_ever_behind_what_is_more_urgent(queue: WorkQueue[str]) -> None:
    queue.add("old", 0.0, Urgency.ROUTINE)
    for turn in range(FAIR_TURN):
        queue.add(f"changed {turn}", 1.0, Urgency.CHANGED)
    assert [taken(queue, 1.0) for _ in range(FAIR_TURN)][-1] == "old"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(["add", "take", "done", "failed"]),
            st.floats(0.0, 5.0),
            st.sampled_from(Urgency),
        ),
        max_size=80,
    )
)
def test_every_wish_is_fulfilled_and_nothing_is_worked_on_twice(
    script: list[tuple[str, str, float, Urgency]],
) -> None:
    queue: WorkQueue[str] = WorkQueue(first_retry_s=1.0, last_retry_s=4.0, rng=Random(0))
    working: list[str] = []
    wanted: set[str] = set()
    now_s = 0.0
    for item, what, seconds, urgency in script:
        now_s += seconds
        if what == "add":
            queue.add(item, now_s, urgency)
            wanted.add(item)
        elif what == "take":
            found = queue.take(now_s)
            if found is not None:
                assert found.item not in working
                assert found.waited_s >= 0.0
                working.append(found.item)
                wanted.discard(found.item)
        elif item in working:
            working.remove(item)
            if what == "done":
                queue.done(item)
            else:
                queue.failed(item, now_s)
                wanted.add(item)
    for item in working:
        queue.done(item)
    left = set()
    while (found := queue.take(now_s + 100.0)) is not None:
        left.add(found.item)
        queue.done(found.item)
    assert left == wanted
