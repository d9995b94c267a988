"""The circuit breaker as a state machine."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.breaker import Breaker, BreakerOptions, BreakerState

OPTIONS = BreakerOptions(
    failures=3, failed_share=0.5, half_life_s=10, open_s=2, max_open_s=16, probes=1, recoveries=2
)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def opened(options: BreakerOptions = OPTIONS, now_s: float = 0.0) -> Breaker:
    breaker = Breaker(options, now_s)
    while breaker.state(now_s) is CLOSED:
        breaker.failed(now_s)
    return breaker


def test_three_failures_open_it() -> None:
    breaker = Breaker(OPTIONS, 0)
    breaker.failed(0)
    breaker.failed(0.5)
    assert breaker.admits(1)
    breaker.failed(1)
    assert breaker.state(1) is OPEN
    assert not breaker.admits(1)


def test_failures_long_ago_do_not_count() -> None:
    breaker = Breaker(OPTIONS, 0)
    for now_s in range(0, 1000, 40):
        breaker.failed(now_s)
        assert breaker.state(now_s) is CLOSED


def test_a_small_share_of_failures_leaves_it_closed() -> None:
    breaker = Breaker(OPTIONS, 0)
    for request in range(300):
        (breaker.failed if request % 3 == 2 else breaker.succeeded)(request / 10)
    assert breaker.state(30) is CLOSED


def test_every_second_failing_opens_it() -> None:
    breaker = Breaker(OPTIONS, 0)
    for request in range(20):
        (breaker.failed if request % 2 else breaker.succeeded)(request / 10)
    assert breaker.state(2) is not CLOSED


def test_half_open_lets_probes_through_one_at_a_time() -> None:
    breaker = opened()
    assert breaker.wakes_s(1) == 2
    assert breaker.state(2) is HALF_OPEN
    assert breaker.admits(2)
    breaker.sent(2)
    assert not breaker.admits(3)
    breaker.succeeded(4)
    assert breaker.admits(4)
    breaker.sent(4)
    breaker.succeeded(5)
    assert breaker.state(5) is CLOSED


def test_a_failed_probe_opens_it_for_twice_as_long() -> None:
    breaker = opened()
    now_s, waits = 2.0, []
    for _ in range(5):
        breaker.sent(now_s)
        breaker.failed(now_s)
        wakes_s = breaker.wakes_s(now_s)
        assert wakes_s is not None
        waits.append(wakes_s - now_s)
        now_s = wakes_s
    assert waits == [4, 8, 16, 16, 16]


def test_a_recovered_instance_starts_with_a_short_wait_again() -> None:
    breaker = opened()
    breaker.failed(2)
    for now_s in (6, 7):
        breaker.sent(now_s)
        breaker.succeeded(now_s)
    assert breaker.state(7) is CLOSED
    for _ in range(3):
        breaker.failed(8)
    assert breaker.wakes_s(8) == 10


def test_a_probe_whose_client_left_is_forgotten() -> None:
    breaker = opened()
    breaker.sent(2)
    assert breaker.wakes_s(3) == 2 + OPTIONS.probe_s
    assert not breaker.admits(3)
    assert breaker.admits(3 + OPTIONS.probe_s)


def test_answers_to_requests_sent_before_it_opened_change_nothing() -> None:
    breaker = opened()
    breaker.succeeded(1)
    breaker.failed(1)
    assert breaker.wakes_s(1) == 2


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["sent", "succeeded", "failed"]), st.floats(0, 20, allow_nan=False)),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_whatever_happens_it_can_recover(
    actions: list[tuple[str, float]], failures: int, probes: int, recoveries: int
) -> None:
    options = BreakerOptions(failures=failures, probes=probes, recoveries=recoveries)
    breaker, now_s = Breaker(options, 0.0), 0.0
    for action, later_s in actions:
        now_s += later_s
        getattr(breaker, action)(now_s)
        if breaker.state(now_s) is OPEN:
            wakes_s = breaker.wakes_s(now_s)
            assert wakes_s is not None
            assert 0 < wakes_s - now_s <= options.max_open_s + 1e-9
            assert not breaker.admits(now_s)
    now_s += options.max_open_s + options.probe_s
    for _ in range(recoveries):
        assert breaker.admits(now_s)
        breaker.sent(now_s)
        breaker.succeeded(now_s)
    assert breaker.state(now_s) is CLOSED


@given(st.integers(1, 10), st.integers(0, 50))
def test_it_opens_only_on_enough_failures_and_enough_of_all(failures: int, successes: int) -> None:
    breaker = Breaker(OPTIONS, 0.0)
    for _ in range(successes):
        breaker.succeeded(0.0)
    for _ in range(failures):
        breaker.failed(0.0)
    enough = failures >= 3 and any(n >= 3 and n >= successes for n in range(1, failures + 1))
    assert (breaker.state(0.0) is OPEN) == enough
