"""Each policy against its published rule, in tables of named cases."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from pointsman.core.cluster import Cluster
from pointsman.core.events import InstanceSeen, Placed
from pointsman.core.placement.catalogue import POLICIES, make_policy
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import Stage

MakeCluster = Callable[..., Cluster]
MakeRequest = Callable[..., RequestView]


def loaded(cluster: Cluster, running: list[int] | None = None, tokens: list[int] | None = None) -> Cluster:
    for slot, count in enumerate(running or []):
        cluster.loads.running[slot] = count
    for slot, count in enumerate(tokens or []):
        cluster.loads.prefill_tokens[slot] = count
    return cluster


def chosen(name: str, cluster: Cluster, request: RequestView, seed: int = 0, **parameters: object) -> int:
    slots = cluster.candidates("m").whole.slots
    return make_policy(name, parameters).pick(cluster, request, slots, Stage.WHOLE, Random(seed)).slot


def test_round_robin_takes_turns(make_cluster: MakeCluster, make_request: MakeRequest) -> None:
    cluster = make_cluster("mixed", "mixed", "mixed")
    turns = []
    for number in range(6):
        request = make_request(f"r{number}")
        slot = chosen("round_robin", cluster, request)
        turns.append(slot)
        cluster.apply(Placed(request, None, cluster.instance(slot).id, 0.0))
    assert turns == [0, 1, 2, 0, 1, 2]


def test_random_uses_every_candidate_about_equally(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed", "mixed", "mixed")
    counts = Counter(chosen("random", cluster, make_request(), seed) for seed in range(600))
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 150


def test_power_of_two_never_takes_the_most_loaded(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = loaded(make_cluster("mixed", "mixed", "mixed"), running=[5, 9, 7])
    counts = Counter(chosen("power_of_two", cluster, make_request(), seed) for seed in range(300))
    assert set(counts) == {0, 2}
    assert counts[0] > counts[2]


@pytest.mark.parametrize(
    ("policy", "running", "tokens", "expected"),
    [
        ("least_requests", [3, 1, 2], [0, 900, 0], {1}),
        ("least_requests", [2, 1, 1], [0, 0, 0], {1, 2}),
        ("least_tokens", [0, 9, 0], [700, 100, 500], {1}),
        ("least_tokens", [0, 0, 0], [10, 10, 20], {0, 1}),
    ],
)
def test_least_loaded(
    policy: str,
    running: list[int],
    tokens: list[int],
    expected: set[int],
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = loaded(make_cluster("mixed", "mixed", "mixed"), running, tokens)
    assert {chosen(policy, cluster, make_request(), seed) for seed in range(40)} == expected


@pytest.mark.parametrize(
    ("case", "running", "cached", "expected"),
    [
        ("the holder of enough of the prompt", [9, 2], {0: 2}, 0),
        ("too little cached: most cache room", [2, 2], {0: 1}, 1),
        ("out of balance: fewest requests", [90, 2], {0: 4}, 1),
        ("a large difference that is small relatively is balance", [300, 220], {0: 4}, 0),
        ("fewest requests among several holders", [5, 4], {0: 3, 1: 3}, 1),
    ],
)
def test_prefix_affinity(
    case: str,
    running: list[int],
    cached: dict[int, int],
    expected: int,
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = loaded(make_cluster("mixed", "mixed"), running)
    hashes = (11, 12, 13, 14)
    for slot, blocks in cached.items():
        cluster.prefixes.insert(slot, hashes[:blocks], 100)
    request = make_request(block_hashes=hashes, block_tokens=16)
    assert chosen("prefix_affinity", cluster, request) == expected, case


def test_a_session_stays_and_only_a_lost_instances_sessions_move(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed", "mixed", "mixed", "mixed")
    requests = [make_request(session=f"s{number}") for number in range(60)]
    home = [chosen("session", cluster, request) for request in requests]
    assert len(set(home)) == 4
    without = Slots([0, 1, 3])
    policy = make_policy("session")
    for request, before in zip(requests, home, strict=True):
        after = policy.pick(cluster, request, without, Stage.WHOLE, Random(1)).slot
        assert after == before if before != 2 else after != 2


def test_without_a_session_it_is_the_fewest_requests(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = loaded(make_cluster("mixed", "mixed"), running=[4, 1])
    assert chosen("session", cluster, make_request()) == 1


def holding(
    cluster: Cluster,
    prefill: list[int],
    context: list[int],
    running: list[int] | None = None,
    cached: dict[int, int] | None = None,
    capacity: int = 0,
) -> Cluster:
    loaded(cluster, running, prefill)
    for slot, count in enumerate(context):
        cluster.loads.context_tokens[slot] = count
        if capacity:
            known = replace(cluster.instance(slot), kv_capacity_tokens=capacity)
            cluster.apply(InstanceSeen(known))
    for slot, blocks in (cached or {}).items():
        cluster.prefixes.insert(slot, HASHES[:blocks], 100)
    return cluster


HASHES = (11, 12, 13, 14)


@pytest.mark.parametrize(
    ("case", "prefill", "context", "cached", "parameters", "expected"),
    [
        ("nothing cached: least of prompts and contexts", [600, 0], [0, 900], {}, {}, {1}),
        ("a pending prompt counts twice: to compute, and to hold", [500, 0], [0, 999], {}, {}, {1}),
        ("cached tokens are credited once", [0, 0], [60, 0], {0: 4}, {}, {0}),
        ("but not more than they save", [0, 0], [70, 0], {0: 4}, {}, {1}),
        ("without credit the cache is nothing", [0, 0], [60, 0], {0: 4}, {"overlap_credit": 0.0}, {1}),
        ("scale 0 leaves what is held", [90, 0], [0, 95], {}, {"prefill_load_scale": 0.0}, {0}),
        ("ties are shared", [5, 5], [5, 5], {}, {}, {0, 1}),
    ],
)
def test_kv_cost(
    case: str,
    prefill: list[int],
    context: list[int],
    cached: dict[int, int],
    parameters: dict[str, float],
    expected: set[int],
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = holding(make_cluster("mixed", "mixed"), prefill, context, cached=cached)
    request = make_request(block_hashes=HASHES, block_tokens=16, prompt_tokens=64)
    seen = {chosen("kv_cost", cluster, request, seed, **parameters) for seed in range(40)}
    assert seen == expected, case


def test_kv_cost_on_decode_stages_counts_what_is_held(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = holding(make_cluster("mixed", "mixed"), [0, 0], [60, 50], cached={0: 4})
    request = make_request(block_hashes=HASHES, block_tokens=16, prompt_tokens=64)
    slots = cluster.candidates("m").whole.slots
    pick = make_policy("kv_cost").pick(cluster, request, slots, Stage.DECODE, Random(0))
    assert (pick.slot, pick.cost) == (1, 50 + 64)


def test_kv_cost_with_a_temperature_prefers_the_cheap_and_spares_none(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = holding(make_cluster("mixed", "mixed", "mixed"), [0, 0, 0], [0, 500, 1000])
    counts = Counter(chosen("kv_cost", cluster, make_request(), seed, temperature=0.5) for seed in range(900))
    # exp(0) : exp(-1) : exp(-2)
    assert counts[0] > counts[1] > counts[2] > 0
    assert counts[0] == pytest.approx(900 * 0.665, rel=0.1)


@pytest.mark.parametrize(
    ("case", "running", "context", "cached", "parameters", "expected"),
    [
        ("all alike: any", [3, 3], [0, 0], {}, {}, {0, 1}),
        ("shortest queue", [3, 5], [0, 0], {}, {}, {0}),
        ("emptier KV", [3, 3], [900, 100], {}, {}, {1}),
        ("a whole prefix outweighs the longest queue", [9, 2], [0, 0], {0: 4}, {}, {0}),
        ("but not queue and KV together", [9, 2], [900, 0], {0: 4}, {}, {1}),
        ("nor half of it the queue", [9, 2], [0, 0], {0: 2}, {}, {1}),
        ("weights are parameters", [9, 2], [0, 0], {0: 4}, {"prefix_weight": 1.0}, {1}),
    ],
)
def test_weighted_scorers(
    case: str,
    running: list[int],
    context: list[int],
    cached: dict[int, int],
    parameters: dict[str, float],
    expected: set[int],
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = holding(make_cluster("mixed", "mixed"), [0, 0], context, running, cached, capacity=1000)
    request = make_request(block_hashes=HASHES, block_tokens=16, prompt_tokens=64)
    seen = {chosen("weighted_scorers", cluster, request, seed, **parameters) for seed in range(40)}
    assert seen == expected, case


@pytest.mark.parametrize(
    ("case", "running", "prefill", "context", "expected"),
    [
        ("most free per request", [2, 4], [0, 0], [500, 400], {0}),
        ("a waiting prompt is used memory", [2, 2], [300, 0], [300, 400], {1}),
        ("fewer requests outweigh less memory", [1, 4], [0, 0], [800, 300], {0}),
        ("an idle one is free beyond measure", [1, 0], [0, 0], [1, 0], {1}),
        ("overcommitted is worse the fewer share it", [1, 4], [0, 0], [1400, 1400], {1}),
        ("ties are shared", [2, 2], [0, 0], [10, 10], {0, 1}),
    ],
)
def test_freeness(
    case: str,
    running: list[int],
    prefill: list[int],
    context: list[int],
    expected: set[int],
    make_cluster: MakeCluster,
    make_request: MakeRequest,
) -> None:
    cluster = holding(make_cluster("mixed", "mixed"), prefill, context, running, capacity=1000)
    seen = {chosen("freeness", cluster, make_request(), seed) for seed in range(40)}
    assert seen == expected, case


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_picks_a_candidate_on_every_stage(
    name: str, make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed", "mixed", "mixed", "mixed")
    slots = Slots([1, 3])
    request = make_request(block_hashes=(1, 2), block_tokens=16, session="s")
    for stage in Stage:
        for seed in range(10):
            pick = make_policy(name).pick(cluster, request, slots, stage, Random(seed))
            assert pick.slot in (1, 3)
            assert pick.why


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(ValueError, match="unknown policy 'best'; there are freeness, "):
        make_policy("best")
    with pytest.raises(ValueError, match="'prefix_affinity' has no parameter depth; it has balance_abs"):
        make_policy("prefix_affinity", {"depth": 3})


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("policy", ["kv_cost", "weighted_scorers", "freeness"])
def test_many_instances_cost_what_few_do(
    policy: str,
    stage: Stage,
    make_cluster: MakeCluster,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = Random(3)
    cluster = make_cluster(*["mixed"] * 20)
    for slot in range(20):
        known = replace(cluster.instance(slot), kv_capacity_tokens=rng.choice((0, 5000, 9000)))
        cluster.apply(InstanceSeen(known))
        for number in range(rng.randrange(4)):
            hashes = (*HASHES[: rng.randrange(4)], 100 * slot + number)
            placed = make_request(f"{slot}-{number}", block_hashes=hashes, block_tokens=16)
            cluster.apply(Placed(placed, None, known.id, 0.0, rng.randrange(20)))
    request = make_request(block_hashes=HASHES, block_tokens=16, prompt_tokens=60)
    picks = []
    for few in (64, 0):
        monkeypatch.setattr("pointsman.core.slots.FEW", few)
        slots = Slots(list(range(20)))
        picks.append(
            [make_policy(policy).pick(cluster, request, slots, stage, Random(seed)) for seed in range(10)]
        )
    assert picks[0] == picks[1]


def test_kv_cost_counts_what_running_requests_share_once(
    make_cluster: MakeCluster, make_request: MakeRequest
) -> None:
    cluster = make_cluster("mixed")
    shared = make_request("a", block_hashes=HASHES[:2], block_tokens=16, prompt_tokens=40)
    for name, cached in (("a", 0), ("b", 32)):
        cluster.apply(Placed(replace(shared, request_id=name), None, cluster.instance(0).id, 0.0, cached))
    request = make_request("c", block_hashes=HASHES, block_tokens=16, prompt_tokens=64)
    slots = cluster.candidates("m").whole.slots
    cost = make_policy("kv_cost").pick(cluster, request, slots, Stage.WHOLE, Random(0)).cost
    # To compute: 40 and 8 that wait, 64 - 32 of its own. Held: two times 40, and 64, 32 of them three times.
    assert cost == (40 + 8 + 32) + (40 + 40 + 64 - 2 * 32)
