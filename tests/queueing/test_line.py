"""Whose turn it is, found without a look at everybody, is whose turn it is."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.cluster import Cluster
from pointsman.core.decide import ModelRules, Rules, decide, decide_ready
from pointsman.core.decisions import Wait
from pointsman.core.events import InstanceHealth, InstanceSeen
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.queueing.catalogue import make_order
from pointsman.core.queueing.line import Line
from pointsman.core.requests import RequestView


def request(rng: Random, number: int) -> RequestView:
    return RequestView(
        f"r{number}",
        rng.choice("mn"),
        rng.randrange(1, 900),
        rng.choice((float(number), float(rng.randrange(40)))),
        tenant=rng.choice("ab"),
        priority=rng.choice((0, 0, 0, 1, -1)),
        expected_output_tokens=rng.randrange(3),
        may_split=rng.random() < 0.7,
    )


def lined_up(rng: Random, requests: int) -> tuple[Line, list[RequestView]]:
    """A line that some have left, and who is still there."""
    line, there = Line(), []
    for number in range(requests):
        there.append(request(rng, number))
        line.add(there[-1])
        while there and rng.random() < 0.45:
            gone = there.pop(rng.randrange(len(there)))
            assert line.pop(gone.request_id) is gone
            assert line.pop(gone.request_id) is None
    return line, there


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_line_is_what_was_added_and_has_not_left(seed: int, requests: int) -> None:
    line, there = lined_up(Random(seed), requests)
    assert (len(line), line.requests()) == (len(there), there)
    assert list(line.by_arrival(())) == sorted(there, key=lambda r: (-r.priority, r.arrived_s))
    assert line.lowest_priority == min((r.priority for r in there), default=0)
    assert [line.waits_for(model) for model in "mn"] == [
        any(r.model == model for r in there) for model in "mn"
    ]


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 40),
    st.sampled_from(("first_come", "shortest_predicted", "virtual_tokens")),
    st.sampled_from((("mixed", "mixed"), ("prefill", "decode", "decode"), ("decode", "mixed"), ())),
)
def test_who_is_ready_is_who_need_not_wait(
    seed: int, requests: int, order: str, roles: tuple[str, ...]
) -> None:
    rng = Random(seed)
    line, there = lined_up(rng, requests)
    cluster = Cluster()
    for number, role in enumerate(roles):
        models = rng.choice((("m",), ("n",), ("m", "n")))
        instance = Instance(
            InstanceId(f"http://{number}", ""), models, Role(role), max_running=rng.randrange(4)
        )
        cluster.apply(InstanceSeen(instance))
        cluster.apply(InstanceHealth(instance.id, available=rng.random() < 0.8))
    rules = Rules(
        default=ModelRules(make_policy("least_tokens")),
        order=make_order(order),
        max_wait_s=1000.0,
        max_wait_for_instance_s=1000.0,
    )
    asked = decide(cluster, there, 50.0, Random(1), rules)
    assert decide_ready(cluster, line, 50.0, Random(1), rules) == [
        decision for decision in asked if not isinstance(decision, Wait)
    ]
