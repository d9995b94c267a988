"""What happens to a request, by what the cluster looks like."""

from collections.abc import Callable
from random import Random

import pytest

from pointsman.core.cluster import Cluster
from pointsman.core.decide import ModelRules, Rules, choose_decode, decide
from pointsman.core.decisions import Decision, Dispatch, Reject, RejectReason, Wait
from pointsman.core.events import InstanceHealth
from pointsman.core.instances import Capabilities, InstanceId
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
        from pointsman.core.events import InstanceSeen

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
    dead = one(cluster, make_request())
    assert isinstance(dead, Reject)
    assert dead.reason is RejectReason.NO_INSTANCE
    assert dead.retry_after_s == RULES.retry_after_s


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
