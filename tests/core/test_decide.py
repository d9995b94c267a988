"""What happens to a request, by what the cluster looks like."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from pointsman.core.cluster import Cluster
from pointsman.core.decide import ModelRules, Queue, Rules, choose_decode, decide, decide_newcomer
from pointsman.core.decisions import Decision, Dispatch, Reject, RejectReason, Wait
from pointsman.core.events import InstanceHealth, InstanceSeen
from pointsman.core.instances import Capabilities, Instance, InstanceId, Role
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.requests import RequestView

MakeCluster = Callable[..., Cluster]
MakeRequest = Callable[..., RequestView]
RULES = Rules(default=ModelRules(make_policy("least_requests"), local_prefill_tokens=256))


def at(number: int) -> InstanceId:
    return InstanceId(f"http://{number}", "e")


def one(cluster: Cluster, request: RequestView, rules: Rules = RULES, now: float = 0.0) -> Decision:
    (decision,) = decide(cluster, [request], now, Random(0), rules)
    return decision


@pytest.mark.parametrize(
    ("case", "roles", "request_fields", "prefill", "decode"),
    [
        ("a mixed instance does both", ["mixed"], {}, None, 0),
        ("prefill and decode apart", ["prefill", "decode"], {}, 0, 1),
        ("a short prompt skips the prefill pool", ["prefill", "decode"], {"prompt_tokens": 200}, None, 1),
        ("what may not split stays whole", ["prefill", "decode"], {"may_split": False}, None, 1),
        ("decode instances alone prefill by themselves", ["decode"], {}, None, 0),
    ],
)
def test_where_a_request_goes(
    case: str,
    roles: list[str],
    request_fields: dict[str, object],
    prefill: int | None,
    decode: int,
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    decision = one(make_cluster(*roles), make_request(**request_fields))
    assert isinstance(decision, Dispatch), case
    assert decision.prefill == (None if prefill is None else at(prefill)), case
    assert decision.decode == at(decode), case


def test_a_mostly_cached_prompt_skips_the_prefill_pool(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("prefill", "decode")
    cluster.prefixes.insert(1, (1, 2, 3, 4, 5, 6), 100)
    request = make_request(prompt_tokens=1000, block_hashes=(1, 2, 3, 4, 5, 6, 7), block_tokens=128)
    decision = one(cluster, request)
    assert isinstance(decision, Dispatch)
    assert (decision.prefill, decision.decode) == (None, at(1))
    assert decision.why.startswith("232 tokens to prefill, not worth a transfer")


@pytest.mark.parametrize(
    ("case", "roles", "cached_on", "cached_tokens"),
    [
        ("a mixed instance", ["mixed"], 0, 256),
        ("the prefill instance of a pair", ["prefill", "decode"], 0, 256),
        ("not the decode instance of a pair: it gets the KV", ["prefill", "decode"], 1, 0),
        ("a mixed instance beside a prefill pool", ["decode", "mixed"], 1, 256),
    ],
)
def test_a_dispatch_tells_what_of_the_prompt_is_cached_where_it_is_computed(
    case: str,
    roles: list[str],
    cached_on: int,
    cached_tokens: int,
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = make_cluster(*roles, capabilities=Capabilities(local_prefill=False))
    cluster.prefixes.insert(cached_on, (1, 2), 100)
    request = make_request(prompt_tokens=1000, block_hashes=(1, 2, 3), block_tokens=128)
    decision = one(cluster, request)
    assert isinstance(decision, Dispatch), case
    assert decision.cached_tokens == cached_tokens, case


def test_who_waits_together_sees_what_is_cached_for_the_others(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed", "mixed")
    cluster.prefixes.insert(0, (1, 2, 3, 4, 5, 6, 7), 100)
    rules = Rules(default=ModelRules(make_policy("kv_cost")))
    long = make_request("a", prompt_tokens=1000, block_hashes=(1, 2, 3, 4, 5, 6, 7), block_tokens=128)
    short = make_request("b", prompt_tokens=10)
    first, second = decide(cluster, [long, short], 0.0, Random(0), rules)
    assert isinstance(first, Dispatch)
    assert isinstance(second, Dispatch)
    assert (first.decode, first.cached_tokens, second.decode) == (at(0), 896, at(1))


def test_engines_that_cannot_prefill_on_decode_always_get_a_pair(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("prefill", "decode", capabilities=Capabilities(local_prefill=False))
    decision = one(cluster, make_request(prompt_tokens=3))
    assert isinstance(decision, Dispatch)
    assert decision.prefill == at(0)


def test_mixed_instances_compete_with_the_prefill_pool(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("prefill", "decode", "mixed")
    cluster.loads.running[0] = 3
    decision = one(cluster, make_request())
    assert isinstance(decision, Dispatch)
    assert (decision.prefill, decision.decode) == (None, at(2))


def test_pairs_stay_within_their_transfer_group(make_cluster: MakeCluster, make_request: MakeRequest) -> None:
    cluster = make_cluster("prefill", "decode", capabilities=Capabilities(transfer_group="a"))
    other = make_cluster("prefill", "decode", capabilities=Capabilities(transfer_group="b"))
    other.loads.running[0] = other.loads.running[1] = 5
    for slot in (0, 1):
        instance = other.instance(slot)
        moved = type(instance)(
            InstanceId(f"http://b{slot}", "e"), ("m",), instance.role, capabilities=instance.capabilities
        )
        cluster.apply(InstanceSeen(moved))
        cluster.apply(InstanceHealth(moved.id, available=True))
    cluster.loads.running[1] = 9  # the decode instance of group a is busy: group b it is, wholly
    decision = one(cluster, make_request())
    assert isinstance(decision, Dispatch)
    assert decision.decode == InstanceId("http://b1", "e")
    assert decision.prefill == InstanceId("http://b0", "e")


def test_a_retry_goes_elsewhere_while_there_is_an_elsewhere(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed", "mixed")
    for _ in range(5):
        decision = one(cluster, make_request(excluded=frozenset({at(0)})))
        assert isinstance(decision, Dispatch)
        assert decision.decode == at(1)
    both = one(cluster, make_request(excluded=frozenset({at(0), at(1)})))
    assert isinstance(both, Dispatch)


def test_unknown_models_and_dead_clusters_are_told_apart(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed")
    unknown = one(cluster, make_request(model="other"))
    assert isinstance(unknown, Reject)
    assert unknown.reason is RejectReason.MODEL_NOT_FOUND
    cluster.apply(InstanceHealth(at(0), available=False))
    configured = one(cluster, make_request(model="other"), Rules(models={"other": ModelRules()}))
    assert isinstance(configured, Wait)
    waits = one(cluster, make_request(), now=1.0)
    assert isinstance(waits, Wait)
    assert waits.until_s == RULES.max_wait_for_instance_s
    dead = one(cluster, make_request(), now=RULES.max_wait_for_instance_s)
    assert isinstance(dead, Reject)
    assert dead.reason is RejectReason.NO_INSTANCE
    assert dead.retry_after_s == RULES.retry_after_s


SUSPECTED, DEAD, GOOD = (False, True), (False, False), (True, False)
"""Available, last resort: requests failed there; health checks fail; neither."""


@pytest.mark.parametrize(
    ("case", "roles", "health", "fields", "goes_to"),
    [
        ("one works: nobody is sent to the others", ["mixed"] * 3, [SUSPECTED, GOOD, SUSPECTED], {}, {1}),
        ("requests failed on all", ["mixed"] * 2, [SUSPECTED] * 2, {}, {0, 1}),
        ("the dead are left alone", ["mixed"] * 3, [DEAD, SUSPECTED, SUSPECTED], {}, {1, 2}),
        ("all are dead", ["mixed"] * 2, [DEAD] * 2, {}, set()),
        ("the only decode instance", ["prefill", "decode"], [GOOD, SUSPECTED], {}, {1}),
        ("decode can prefill by itself", ["prefill", "decode"], [SUSPECTED, GOOD], {}, {1}),
        ("nobody else can prefill", ["prefill", "sglang"], [SUSPECTED, GOOD], {}, {1}),
        ("a mixed instance works", ["decode", "mixed"], [SUSPECTED, GOOD], {}, {1}),
        ("a pair works", ["mixed", "prefill", "sglang"], [SUSPECTED, GOOD, GOOD], {}, {2}),
        (
            "what an attempt failed on comes last",
            ["mixed"] * 2,
            [SUSPECTED] * 2,
            {"excluded": frozenset({at(0)})},
            {1},
        ),
    ],
)
def test_where_requests_have_failed_everywhere_they_are_tried_nonetheless(
    case: str,
    roles: list[str],
    health: list[tuple[bool, bool]],
    fields: dict[str, object],
    goes_to: set[int],
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = make_cluster(*("decode" if role == "sglang" else role for role in roles))
    if "sglang" in roles:
        for slot in range(len(roles)):
            instance = replace(cluster.instance(slot), capabilities=Capabilities(local_prefill=False))
            cluster.apply(InstanceSeen(instance))
    for number, (available, last_resort) in enumerate(health):
        cluster.apply(InstanceHealth(at(number), available, last_resort))
    decisions = [decide(cluster, [make_request(**fields)], 0.0, Random(n), RULES)[0] for n in range(20)]
    assert {d.decode for d in decisions if isinstance(d, Dispatch)} == {at(n) for n in goes_to}, case
    assert any(isinstance(d, Wait) for d in decisions) is not bool(goes_to), case
    for decision in decisions:
        if isinstance(decision, Dispatch):
            tried_nonetheless = decision.why.startswith("requests have failed on every instance: ")
            used = [at(number) for number, one in enumerate(health) if one is SUSPECTED]
            assert tried_nonetheless is (decision.decode in used or decision.prefill in used), case


@pytest.mark.parametrize(
    ("case", "queue", "priority", "model", "decision"),
    [
        ("no room, but a place in the queue", Queue(3, same_model=True, lowest_priority=0), 0, "m", Wait),
        ("the queue is full", Queue(4, same_model=True, lowest_priority=0), 0, "m", Reject),
        ("full of less urgent ones", Queue(4, same_model=True, lowest_priority=-1), 0, "m", type(None)),
        ("room, and others before it", Queue(3, same_model=True, lowest_priority=0), 0, "n", type(None)),
        (
            "room, the others want another model",
            Queue(4, same_model=False, lowest_priority=0),
            0,
            "n",
            Dispatch,
        ),
        ("unknown", Queue(3, same_model=False, lowest_priority=0), 0, "x", Reject),
    ],
)
def test_a_newcomer_finds_others_waiting(
    case: str,
    queue: Queue,
    priority: int,
    model: str,
    decision: type,
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = make_cluster("mixed:1")
    cluster.loads.running[0] = 1
    other = Instance(InstanceId("http://other", "e"), ("n",), Role.MIXED)
    cluster.apply(InstanceSeen(other))
    cluster.apply(InstanceHealth(other.id, available=True))
    request = make_request(model=model, priority=priority)
    found = decide_newcomer(cluster, request, queue, 0.0, Random(0), replace(RULES, max_waiting=4))
    assert isinstance(found, decision), case


def test_who_finds_no_room_waits_and_not_forever(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed:1")
    cluster.loads.running[0] = 1
    waits = one(cluster, make_request(), now=1.0)
    assert isinstance(waits, Wait)
    assert waits.until_s == RULES.max_wait_s
    late = one(cluster, make_request(), now=RULES.max_wait_s)
    assert isinstance(late, Reject)
    assert late.reason is RejectReason.DEADLINE


def test_several_requests_see_each_other_and_go_by_priority(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed:1", "mixed:1")
    rules = Rules(max_waiting=1)
    requests = [
        make_request("first", arrived_s=0.0),
        make_request("second", arrived_s=1.0),
        make_request("third", arrived_s=2.0),
        make_request("urgent", arrived_s=3.0, priority=5),
    ]
    decisions = {d.request_id: d for d in decide(cluster, requests, 4.0, Random(0), rules)}
    assert isinstance(decisions["urgent"], Dispatch)
    assert isinstance(decisions["first"], Dispatch)
    assert decisions["urgent"].decode != decisions["first"].decode
    assert isinstance(decisions["second"], Wait)
    rejected = decisions["third"]
    assert isinstance(rejected, Reject)
    assert rejected.reason is RejectReason.QUEUE_FULL


def test_the_view_is_not_changed(make_cluster: MakeCluster, make_request: MakeRequest) -> None:
    cluster = make_cluster("mixed", "mixed")
    decide(cluster, [make_request("a"), make_request("b")], 0.0, Random(0), RULES)
    assert not any(cluster.loads.running)


def test_decode_chosen_late(make_cluster: MakeCluster, make_request: MakeRequest) -> None:
    cluster = make_cluster("prefill", "decode", "decode")
    cluster.loads.running[1] = 4
    decision = choose_decode(cluster, make_request(), at(0), 0.0, Random(0), RULES)
    assert isinstance(decision, Dispatch)
    assert (decision.prefill, decision.decode) == (at(0), at(2))


def test_a_decision_explains_itself(make_cluster: MakeCluster, make_request: MakeRequest) -> None:
    decision = one(make_cluster("prefill", "decode"), make_request())
    assert isinstance(decision, Dispatch)
    assert decision.explain() == (
        "prefill=http://0;decode=http://1;policy=least_requests;candidates=2;cost=0;"
        "why=fewest requests, then fewest requests"
    )
