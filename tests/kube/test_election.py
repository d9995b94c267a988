"""Who leads: decisions on a clock of the test's own, then several candidates on a real connection."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakekube.server import FakeKube
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.election import Election, Terms
from pointsman.kube.leader import Leader
from pointsman.kube.resource import LEASES, Key, Object

KEY = Key("ns", "controller")
TERMS = Terms(lease_s=9, give_up_s=6, retry_s=2)


class Storage:
    """The one Lease, with its version."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def read(self) -> Object | None:
        return self.lease

    def write(self, lease: Object, *, create: bool) -> Object | None:
        if create != (self.lease is None):
            return None
        if not create and lease["metadata"].get("resourceVersion") != str(self.version):
            return None
        self.version += 1
        self.lease = {
            **lease,
            "metadata": {**lease["metadata"], "uid": "u", "resourceVersion": str(self.version)},
        }
        return self.lease


class Candidate:
    def __init__(self, name: str, storage: Storage) -> None:
        self.election = Election(KEY, name, TERMS)
        self.storage = storage

    def step(self, now_s: float) -> bool:
        self.election.seen(self.storage.read(), now_s)
        write = self.election.next_write(now_s, "now")
        if write is not None:
            written = self.storage.write(write.lease, create=write.create)
            if written is not None:
                self.election.written(written, now_s)
        return self.election.leads(now_s)


def test_the_first_leads_and_the_second_waits() -> None:
    storage = Storage()
    one, two = Candidate("one", storage), Candidate("two", storage)
    assert one.step(0.0)
    assert not two.step(0.0)
    assert one.step(2.0)
    assert not two.step(2.0)
    assert two.election.holder == "one"


def test_a_crashed_leader_is_replaced_within_fifteen_seconds() -> None:
    storage = Storage()
    one, two = Candidate("one", storage), Candidate("two", storage)
    one.step(0.0)
    two.step(-0.1)
    took_over_s = next(
        now_s for now_s in (step * TERMS.retry_s * 1.1 for step in range(100)) if two.step(now_s)
    )
    assert TERMS.lease_s <= took_over_s <= 15
    assert storage.lease is not None
    assert storage.lease["spec"]["leaseTransitions"] == 1


def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    storage = Storage()
    one, two = Candidate("one", storage), Candidate("two", storage)
    one.step(0.0)
    two.step(0.0)
    assert one.election.leads(5.9)
    assert not one.election.leads(6.0)
    assert not two.step(8.9)
    assert two.step(9.0)


def test_what_was_given_back_is_free_at_once() -> None:
    storage = Storage()
    one, two = Candidate("one", storage), Candidate("two", storage)
    one.step(0.0)
    two.step(0.0)
    write = one.election.release("now")
    assert write is not None
    storage.write(write.lease, create=write.create)
    assert not one.election.leads(0.1)
    assert two.step(0.2)


def test_a_restarted_leader_of_the_same_name_goes_on() -> None:
    storage = Storage()
    Candidate("one", storage).step(0.0)
    assert Candidate("one", storage).step(1.0)


def test_who_never_led_gives_nothing_back() -> None:
    storage = Storage()
    Candidate("one", storage).step(0.0)
    two = Candidate("two", storage)
    two.step(0.0)
    assert two.election.release("now") is None


@pytest.mark.parametrize("wrong", [(9, 6, 0), (9, 6, 6), (6, 6, 2), (5, 6, 2)])
def test_terms_that_would_let_two_lead(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="retry < give up"):
        Terms(*wrong)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(0.01, 5.0),
            st.sampled_from(["step", "step", "step", "read only", "stale write", "restart"]),
        ),
        max_size=60,
    )
)
def test_never_two_leaders(script: list[tuple[int, float, str]]) -> None:
    storage = Storage()
    candidates = [Candidate(str(number), storage) for number in range(3)]
    now_s = 0.0
    for number, passed_s, what in script:
        now_s += passed_s
        chosen = candidates[number]
        match what:
            case "step":
                chosen.step(now_s)
            case "read only":
                chosen.election.seen(storage.read(), now_s)
            case "restart":
                candidates[number] = Candidate(f"{number}-{now_s}", storage)
            case _:
                # Reads, then is slow: another comes first, and the write is of an old version.
                chosen.election.seen(storage.read(), now_s)
                write = chosen.election.next_write(now_s, "now")
                candidates[(number + 1) % 3].step(now_s)
                if write is not None and (done := storage.write(write.lease, create=write.create)):
                    chosen.election.written(done, now_s)
        assert sum(candidate.election.leads(now_s) for candidate in candidates) <= 1


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


class Worker:
    def __init__(self) -> None:
        self.working = False
        self.begun = 0

    async def __call__(self) -> None:
        self.working, self.begun = True, self.begun + 1
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False


def leader(client: ApiClient, name: str, work: Worker) -> Leader:
    # Long enough for a busy machine to renew in time.
    terms = Terms(lease_s=4, give_up_s=3, retry_s=0.05)
    return Leader(client, KEY, Election(KEY, name, terms), work, manager="test", rng=Random(name))


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_works_and_hands_over_at_its_end(fake: FakeKube, client: ApiClient) -> None:
    one, two = Worker(), Worker()
    first = asyncio.create_task(leader(client, "one", one).run())
    await until(lambda: one.working)
    second = asyncio.create_task(leader(client, "two", two).run())
    await asyncio.sleep(0.2)
    assert not two.working
    await end(first)
    assert not one.working
    await until(lambda: two.working)
    assert fake.storage.get(LEASES.path(), "ns", "controller")["spec"]["leaseTransitions"] == 1
    await end(second)
    assert fake.storage.get(LEASES.path(), "ns", "controller")["spec"]["holderIdentity"] == ""


async def test_who_cannot_reach_the_api_server_stops_and_begins_again(fake: FakeKube) -> None:
    work = Worker()
    async with ApiClient(Access(fake.url)) as client:
        task = asyncio.create_task(leader(client, "one", work).run())
        await until(lambda: work.working)
        fake.faults.failures = [503] * 100000
        await until(lambda: not work.working)
        fake.faults.failures.clear()
        await until(lambda: work.working)
        assert work.begun == 2
        await end(task)


async def test_that_no_answer_came_in_time_is_told(
    fake: FakeKube, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    fake.faults.hang = True
    election = Election(KEY, "one", Terms(lease_s=1, give_up_s=0.2, retry_s=0.05))
    task = asyncio.create_task(Leader(client, KEY, election, Worker(), manager="test").run())
    await until(lambda: bool(caplog.messages))
    fake.faults.hang = False
    await end(task)
    assert caplog.messages[0] == f"the lease {KEY} cannot be renewed: no answer in time"


async def test_that_the_work_ends_is_an_error(client: ApiClient) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    terms = Terms(lease_s=4, give_up_s=3, retry_s=0.05)
    with pytest.raises(ZeroDivisionError):
        await Leader(client, KEY, Election(KEY, "one", terms), broken, manager="test").run()
