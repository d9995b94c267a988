"""The fold: what is accounted is taken back, whatever the order of things."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.core.cluster import Cluster
from pointsman.core.events import (
    DecodeChosen,
    EngineSample,
    Event,
    Finished,
    InstanceHealth,
    InstanceLost,
    InstanceRole,
    InstanceSeen,
    Placed,
    PrefillEnded,
    Progress,
)
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.requests import RequestView


def request(name: str, tokens: int = 100) -> RequestView:
    return RequestView(
        request_id=name, model="m", prompt_tokens=tokens, arrived_s=0.0, block_hashes=(tokens % 7, tokens)
    )


def loads(cluster: Cluster, slot: int) -> tuple[int, int, int]:
    view = cluster.loads
    return int(view.running[slot]), int(view.prefill_tokens[slot]), int(view.context_tokens[slot])


def ids(count: int) -> list[InstanceId]:
    return [InstanceId(f"http://{number}", "e") for number in range(count)]


def clustered(count: int) -> Cluster:
    cluster = Cluster()
    for instance in ids(count):
        cluster.apply(InstanceSeen(Instance(instance, ("m",), Role.MIXED)))
        cluster.apply(InstanceHealth(instance, available=True))
    return cluster


def test_a_whole_request_from_placement_to_end() -> None:
    cluster = clustered(1)
    seen = []
    for event in (
        Placed(request("a"), None, ids(1)[0], 0.0),
        PrefillEnded("a", 1.0),
        Progress("a", 7),
        Finished("a", 2.0, completed=True),
    ):
        cluster.apply(event)
        seen.append(loads(cluster, 0))
    assert seen == [(1, 100, 0), (1, 0, 100), (1, 0, 107), (0, 0, 0)]


def test_a_split_request_leaves_the_prefill_instance_when_its_prefill_ends() -> None:
    cluster = clustered(2)
    cluster.apply(Placed(request("a"), ids(2)[0], ids(2)[1], 0.0))
    assert (loads(cluster, 0), loads(cluster, 1)) == ((1, 100, 0), (1, 0, 100))
    cluster.apply(PrefillEnded("a", 1.0))
    assert (loads(cluster, 0), loads(cluster, 1)) == ((0, 0, 0), (1, 0, 100))


def test_what_was_cached_at_placement_is_held_but_no_work() -> None:
    cluster = clustered(1)
    seen = []
    for event in (
        Placed(request("a"), None, ids(1)[0], 0.0, cached_tokens=60),
        PrefillEnded("a", 1.0),
        Finished("a", 2.0, completed=True),
        Placed(request("b"), None, ids(1)[0], 3.0, cached_tokens=1000),
        PrefillEnded("b", 4.0),
    ):
        cluster.apply(event)
        seen.append(loads(cluster, 0))
    assert seen == [(1, 40, 60), (1, 0, 100), (0, 0, 0), (1, 0, 100), (1, 0, 100)]


def test_a_prefill_instance_works_on_what_is_not_cached_and_decode_holds_all() -> None:
    cluster = clustered(2)
    cluster.apply(Placed(request("a"), ids(2)[0], ids(2)[1], 0.0, cached_tokens=60))
    assert (loads(cluster, 0), loads(cluster, 1)) == ((1, 40, 0), (1, 0, 100))
    cluster.apply(PrefillEnded("a", 1.0))
    assert (loads(cluster, 0), loads(cluster, 1)) == ((0, 0, 0), (1, 0, 100))


def test_the_decode_instance_may_be_chosen_anew() -> None:
    cluster = clustered(3)
    cluster.apply(Placed(request("a"), ids(3)[0], ids(3)[1], 0.0))
    cluster.apply(DecodeChosen("a", ids(3)[2], 0.5))
    assert (loads(cluster, 1), loads(cluster, 2)) == ((0, 0, 0), (1, 0, 100))
    cluster.apply(Finished("a", 1.0, completed=False))
    assert all(loads(cluster, slot) == (0, 0, 0) for slot in range(3))


def test_a_restarted_engine_is_another_instance() -> None:
    cluster = clustered(1)
    cluster.apply(Placed(request("a"), None, ids(1)[0], 0.0))
    cluster.apply(InstanceLost(ids(1)[0]))
    reborn = InstanceId("http://0", "later")
    cluster.apply(InstanceSeen(Instance(reborn, ("m",), Role.MIXED)))
    slot = cluster.slot_of(reborn)
    assert slot is not None
    assert loads(cluster, slot) == (0, 0, 0)
    assert cluster.prefixes.sizes[slot] == 0
    cluster.apply(Finished("a", 1.0, completed=False))
    assert loads(cluster, slot) == (0, 0, 0)


def test_candidates_follow_role_and_availability() -> None:
    cluster = clustered(2)
    assert cluster.candidates("m").whole.slots.listed == [0, 1]
    cluster.apply(InstanceHealth(ids(2)[0], available=False))
    assert cluster.candidates("m").whole.slots.listed == [1]
    cluster.apply(InstanceRole(ids(2)[1], Role.PREFILL))
    assert cluster.candidates("m").whole.slots.listed == []
    assert cluster.candidates("m").entry.slots.listed == [1]
    assert cluster.candidates("other").entry.slots.listed == []


def test_old_samples_age_out_and_absent_figures_stay_absent() -> None:
    cluster = clustered(1)
    cluster.apply(EngineSample(ids(1)[0], at_s=10.0, running=3))
    sample = cluster.sample(ids(1)[0], now_s=11.0, max_age_s=2.0)
    assert sample is not None
    assert (sample.running, sample.waiting) == (3, None)
    assert cluster.sample(ids(1)[0], now_s=13.0, max_age_s=2.0) is None


@pytest.mark.parametrize("count", [8, 9, 40])
def test_it_grows_with_the_cluster(count: int) -> None:
    cluster = clustered(count)
    assert len(cluster.candidates("m").whole) == count
    assert len(cluster.loads.running) >= count


@given(st.integers(0, 2**32), st.integers(20, 120))
def test_nothing_is_left_when_everything_has_ended(seed: int, steps: int) -> None:
    rng = Random(seed)
    cluster = clustered(4)
    running: set[str] = set()
    for number in range(steps):
        name = f"r{number}"
        some = rng.choice(sorted(running)) if running else name
        prefill, decode = rng.sample(ids(4), 2)
        events: list[Event] = [
            Placed(
                request(name, rng.randrange(1, 500)),
                rng.choice([None, prefill]),
                decode,
                0.0,
                rng.randrange(600),
            ),
            PrefillEnded(some, 0.0),
            Progress(some, rng.randrange(1, 900)),
            DecodeChosen(some, decode, 0.0),
            Finished(some, 0.0, completed=True),
            InstanceHealth(decode, available=rng.random() < 0.5),
        ]
        event = rng.choice(events) if rng.random() < 0.99 else InstanceLost(decode)
        cluster.apply(event)
        if rng.random() < 0.3:
            cluster.apply(event)  # a record may arrive twice
        if isinstance(event, Placed):
            running.add(name)
    for name in running:
        cluster.apply(Finished(name, 0.0, completed=True))
    for load in (cluster.loads.running, cluster.loads.prefill_tokens, cluster.loads.context_tokens):
        assert not any(load)
    assert not any(cluster.in_use.repeats)
    assert cluster.in_use.levels(range(7), 0b1111) == []
