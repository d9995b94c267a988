"""The queue, the clock and the view around `decide`."""

from dataclasses import replace
from random import Random

import pytest

from pointsman.core.decide import Rules
from pointsman.core.decisions import Dispatch, Reject, RejectReason
from pointsman.core.events import Event, Finished, InstanceHealth, InstanceSeen, Placed
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.requests import RequestView
from pointsman.router.brain import Answer, Brain


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> list[Event]:
    return []


@pytest.fixture
def brain(clock: Clock, log: list[Event]) -> Brain:
    brain = Brain(Rules(max_wait_s=10.0), clock, Random(0), log)
    add(brain, "mixed-0", max_running=1)
    return brain


def add(brain: Brain, name: str, max_running: int = 0) -> InstanceId:
    instance = Instance(InstanceId(name, "e"), ("m",), Role.MIXED, max_running=max_running)
    brain.record(InstanceSeen(instance))
    brain.record(InstanceHealth(instance.id, available=True))
    return instance.id


def request(name: str, arrived_s: float = 0.0) -> RequestView:
    return RequestView(request_id=name, model="m", prompt_tokens=10, arrived_s=arrived_s)


def test_a_request_with_room_is_placed_at_once(brain: Brain, log: list[Event]) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    assert [type(answer) for answer in answers] == [Dispatch]
    assert isinstance(log[-1], Placed)
    assert brain.cluster.loads.running[0] == 1


def test_a_waiting_request_goes_when_another_ends(brain: Brain) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    brain.submit(request("b", 1.0), answers.append)
    brain.submit(request("c", 2.0), answers.append)
    assert (len(answers), brain.waiting) == (1, 2)
    brain.finished("a", completed=True)
    assert (answers[-1].request_id, brain.waiting) == ("b", 1)
    brain.finished("b", completed=True)
    assert (answers[-1].request_id, brain.waiting) == ("c", 0)


def test_a_waiting_request_goes_when_an_instance_joins(brain: Brain) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    brain.submit(request("b"), answers.append)
    joined = add(brain, "mixed-1")
    last = answers[-1]
    assert isinstance(last, Dispatch)
    assert (last.request_id, last.decode) == ("b", joined)


def test_a_withdrawn_request_is_never_answered(brain: Brain) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    brain.submit(request("b"), answers.append)
    brain.withdraw("b")
    brain.withdraw("a")
    assert (len(answers), brain.waiting) == (1, 0)
    assert brain.cluster.loads.running[0] == 0


def test_waiting_ends_when_its_time_is_up(brain: Brain, clock: Clock) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    brain.submit(request("b"), answers.append)
    clock.now = 10.0
    brain.reconsider()
    last = answers[-1]
    assert isinstance(last, Reject)
    assert last.reason is RejectReason.DEADLINE


def test_a_callback_may_end_its_request_at_once(brain: Brain) -> None:
    order: list[str] = []

    def fails_at_once(answer: Answer) -> None:
        order.append(answer.request_id)
        brain.finished(answer.request_id, completed=False)

    brain.submit(request("a"), lambda answer: order.append(answer.request_id))
    for name in "bcd":
        brain.submit(request(name, ord(name)), fails_at_once)
    brain.finished("a", completed=True)
    assert order == ["a", "b", "c", "d"]
    assert brain.waiting == 0


def test_who_comes_while_others_wait_does_not_overtake_them(brain: Brain) -> None:
    answers: list[Answer] = []
    brain.submit(request("a"), answers.append)
    brain.submit(request("b", 1.0), answers.append)
    brain.cluster.apply(Finished("a", 2.0, completed=True))  # unheard of by those who wait
    brain.submit(request("c", 2.0), answers.append)
    assert [answer.request_id for answer in answers] == ["a", "b"]
    assert brain.waiting == 1


def test_a_full_queue_turns_away_the_least_urgent(brain: Brain) -> None:
    brain.rules = Rules(max_waiting=2)
    answers: list[Answer] = []
    brain.submit(request("runs"), answers.append)
    for number, (name, priority) in enumerate({"b": 0, "c": 0, "d": 0, "urgent": 1, "e": 0}.items(), 1):
        brain.submit(replace(request(name, number), priority=priority), answers.append)
    rejected = [answer.request_id for answer in answers if isinstance(answer, Reject)]
    assert rejected == ["d", "c", "e"]
    brain.finished("runs", completed=True)
    assert answers[-1].request_id == "urgent"
