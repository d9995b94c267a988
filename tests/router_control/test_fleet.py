"""The fleet: what the view is told about engines that come, fail, restart and go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.api.config_file import ConfigError
from pointsman.api.connector import Connector
from pointsman.api.router_config import RouterConfig
from pointsman.core.breaker import BreakerState
from pointsman.core.cluster import Cluster
from pointsman.core.events import Event, InstanceHealth, InstanceLost, InstanceRole, InstanceSeen
from pointsman.core.instances import Capabilities, InstanceId, Role
from pointsman.http.client import Failure, Sweeper
from pointsman.router.engine_metrics import EngineReport
from pointsman.router.fleet import Fleet, Member

MakeConfig = Callable[..., RouterConfig]
A, B = "http://127.0.0.1:8001", "http://127.0.0.1:8002"


class Scene:
    """A fleet on a clock that tests turn, and the view folded from what it tells."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events: list[Event] = []
        self.cluster = Cluster()
        self.busy: dict[str, int] = {}
        self.suspects: list[str] = []
        self.fleet = Fleet(
            self,
            Sweeper(clock=lambda: self.now_s),
            lambda identity: self.busy.get(identity.address, 0),
            self.suspects.append,
        )

    def record(self, event: Event) -> None:
        self.events.append(event)
        self.cluster.apply(event)

    def member(self, address: str = A) -> Member:
        member = self.fleet.member(address)
        assert member is not None
        return member

    def available(self) -> list[str]:
        return [instance.id.address for _, instance, available in self.cluster.instances() if available]


@pytest.fixture
def scene(make_config: MakeConfig) -> Scene:
    scene = Scene()
    scene.fleet.apply(make_config(), None)
    return scene


def two(**first: Any) -> list[dict[str, Any]]:
    return [{"name": "llama", "instances": [{"url": A} | first, {"url": B}]}]


def test_an_engine_is_used_once_it_is_seen_healthy(scene: Scene) -> None:
    assert scene.available() == []
    scene.fleet.reported(scene.member(), EngineReport(start="1.0"))
    scene.fleet.alive(scene.member())
    assert scene.available() == [A]
    assert scene.member().id == InstanceId(A, "1.0")
    assert scene.fleet.upstream(InstanceId(A, "1.0")) is scene.member().upstream
    assert scene.fleet.upstream(InstanceId(A, "")) is None


def test_an_unhealthy_engine_is_left_alone_and_taken_up_again(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    scene.fleet.dead(scene.member(), "503 to GET /health", refused=False)
    assert scene.available() == []
    scene.fleet.alive(scene.member())
    assert scene.available() == [A]
    assert not [event for event in scene.events if isinstance(event, InstanceLost)]


def test_an_engine_with_another_start_is_another_instance(scene: Scene) -> None:
    scene.fleet.reported(scene.member(), EngineReport(start="1.0"))
    scene.fleet.alive(scene.member())
    scene.fleet.reported(scene.member(), EngineReport(start="2.0"))
    assert InstanceLost(InstanceId(A, "1.0")) in scene.events
    assert [instance.id for _, instance, _ in scene.cluster.instances()] == [InstanceId(A, "2.0")]
    assert scene.available() == [A]
    assert scene.fleet.upstream(InstanceId(A, "1.0")) is None


def test_without_a_start_a_refused_connection_means_another_instance(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    first = scene.member().id
    scene.fleet.dead(scene.member(), "no connection", refused=True)
    scene.fleet.alive(scene.member())
    assert scene.member().id != first
    assert InstanceLost(first) in scene.events
    assert scene.available() == [A]


def test_with_the_same_start_a_refused_connection_was_the_network(scene: Scene) -> None:
    scene.fleet.reported(scene.member(), EngineReport(start="1.0"))
    scene.fleet.alive(scene.member())
    scene.fleet.dead(scene.member(), "no connection", refused=True)
    scene.fleet.reported(scene.member(), EngineReport(start="1.0"))
    scene.fleet.alive(scene.member())
    assert scene.member().id == InstanceId(A, "1.0")
    assert not [event for event in scene.events if event == InstanceLost(InstanceId(A, "1.0"))]


def test_a_start_learned_late_renames_nobody(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    first = scene.member().id
    scene.fleet.reported(scene.member(), EngineReport(start="1.0"))
    assert scene.member().id == first
    scene.fleet.reported(scene.member(), EngineReport(start="2.0"))
    assert scene.member().id == InstanceId(A, "2.0")


def test_what_engines_say_reaches_the_view(scene: Scene) -> None:
    scene.now_s = 5.0
    scene.fleet.reported(scene.member(), EngineReport("1.0", 3, None, 0.5, 16000))
    sample = scene.cluster.sample(scene.member().id, 5.0, 1.0)
    assert sample is not None
    assert (sample.running, sample.waiting, sample.kv_used_share) == (3, None, 0.5)
    assert scene.member().upstream.instance.kv_capacity_tokens == 16000
    assert scene.cluster.sample(scene.member().id, 10.0, 1.0) is None


def test_failures_open_the_breaker_and_probes_close_it(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    identity = scene.member().id
    for _ in range(3):
        scene.fleet.failed(identity, Failure.CLOSED)
    assert scene.available() == []
    assert scene.suspects == [A] * 3
    assert scene.fleet.probes_in_s(scene.member()) == 2.0
    scene.now_s = 2.0
    scene.fleet.refresh()
    assert scene.available() == [A]
    assert scene.fleet.upstream(identity)  # the probe
    assert scene.available() == []
    scene.fleet.succeeded(identity)
    assert scene.available() == [A]
    assert scene.fleet.upstream(identity)
    scene.fleet.succeeded(identity)
    assert scene.fleet.state(scene.member()) is BreakerState.CLOSED
    assert scene.available() == [A]


def test_an_instance_that_is_out_for_failed_requests_alone_is_a_last_resort(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    identity = scene.member().id
    told: list[tuple[bool, bool]] = []

    def last_told() -> tuple[bool, bool]:
        events = [event for event in scene.events if isinstance(event, InstanceHealth)]
        return events[-1].available, events[-1].last_resort

    for _ in range(3):
        scene.fleet.failed(identity, Failure.CLOSED)
    told.append(last_told())
    scene.fleet.dead(scene.member(), "503 to GET /health", refused=False)
    told.append(last_told())
    scene.fleet.alive(scene.member())
    told.append(last_told())
    scene.fleet.drain(scene.member(), draining=True)
    told.append(last_told())
    assert told == [(False, True), (False, False), (False, True), (False, False)]


def test_results_of_forgotten_instances_are_ignored(scene: Scene) -> None:
    before = len(scene.events)
    scene.fleet.failed(InstanceId(A, "gone"), Failure.CLOSED)
    scene.fleet.succeeded(InstanceId(A, "gone"))
    assert len(scene.events) == before


def test_draining_stops_placements_only(scene: Scene) -> None:
    scene.fleet.alive(scene.member())
    scene.fleet.drain(scene.member(), draining=True)
    assert scene.available() == []
    assert scene.fleet.upstream(scene.member().id) is not None
    scene.fleet.drain(scene.member(), draining=False)
    assert scene.available() == [A]


def test_what_is_no_longer_configured_drains_then_leaves(scene: Scene, make_config: MakeConfig) -> None:
    scene.fleet.apply(make_config(models=two()), None)
    for address in (A, B):
        scene.fleet.alive(scene.member(address))
    first = scene.member(A).id
    scene.busy[A] = 1
    scene.fleet.apply(make_config(models=[{"name": "llama", "instances": [{"url": B}]}]), None)
    assert scene.available() == [B]
    assert scene.fleet.upstream(first) is not None
    scene.busy[A] = 0
    scene.fleet.refresh()
    assert scene.fleet.upstream(first) is None
    assert InstanceLost(first) in scene.events
    assert [instance.id.address for _, instance, _ in scene.cluster.instances()] == [B]


def test_what_comes_back_before_it_left_stays(scene: Scene, make_config: MakeConfig) -> None:
    scene.fleet.alive(scene.member())
    scene.busy[A] = 1
    scene.fleet.apply(make_config(models=[{"name": "llama", "instances": [{"url": B}]}]), None)
    scene.fleet.apply(make_config(models=two()), None)
    scene.busy[A] = 0
    scene.fleet.refresh()
    assert scene.available() == [A]


def test_a_change_of_facts_is_told_and_nothing_else(scene: Scene, make_config: MakeConfig) -> None:
    scene.fleet.alive(scene.member())
    pool = scene.member().upstream.pool
    scene.events.clear()
    scene.fleet.apply(make_config(), None)
    assert scene.events == []
    scene.fleet.apply(make_config(models=two(role="decode", connector="nixl", max_running=4)), None)
    told = [
        event for event in scene.events if isinstance(event, InstanceSeen) and event.instance.id.address == A
    ]
    assert [(event.instance.role, event.instance.max_running) for event in told] == [(Role.DECODE, 4)]
    assert not [event for event in scene.events if isinstance(event, InstanceHealth)]
    assert scene.member().upstream.pool is pool
    assert scene.member().upstream.connector is Connector.NIXL


def test_keys_come_from_files(scene: Scene, make_config: MakeConfig, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-engine\n")
    scene.fleet.apply(make_config(models=two(api_key_file=str(key))), None)
    assert scene.member(A).upstream.authorization == b"Bearer sk-engine"
    assert scene.member(B).upstream.authorization is None


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"two words", "schlüssel".encode(), b"\xff"])
def test_a_key_that_is_none_changes_nothing(
    scene: Scene, make_config: MakeConfig, tmp_path: Path, content: bytes
) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    scene.events.clear()
    with pytest.raises(ConfigError, match=str(key)):
        scene.fleet.apply(make_config(models=two(role="decode", api_key_file=str(key))), None)
    assert scene.events == []


CAPABILITIES: dict[str, tuple[dict[str, Any], Capabilities]] = {
    "none": ({}, Capabilities(late_decode=False)),
    "nixl": (
        {"connector": "nixl", "role": "decode"},
        Capabilities(late_decode=True, kv_handle=True, transfer_group="nixl"),
    ),
    "mooncake": ({"connector": "mooncake"}, Capabilities(late_decode=False, transfer_group="mooncake")),
    "sglang decode": (
        {"connector": "sglang", "role": "decode"},
        Capabilities(local_prefill=False, late_decode=False, transfer_group="sglang"),
    ),
    "said otherwise": (
        {
            "connector": "nixl",
            "capabilities": {
                "local_prefill": False,
                "late_decode": False,
                "kv_handle": False,
                "replay_exact": True,
                "transfer_group": "rack-1",
            },
        },
        Capabilities(
            local_prefill=False,
            late_decode=False,
            kv_handle=False,
            transfer_group="rack-1",
            replay_exact=True,
        ),
    ),
}


@pytest.mark.parametrize(("given", "capabilities"), CAPABILITIES.values(), ids=CAPABILITIES)
def test_capabilities_follow_from_the_connector(
    scene: Scene, make_config: MakeConfig, given: dict[str, Any], capabilities: Capabilities
) -> None:
    scene.fleet.apply(make_config(models=two(**given)), None)
    assert scene.member(A).upstream.instance.capabilities == capabilities


def test_other_breaker_options_start_afresh(scene: Scene, make_config: MakeConfig) -> None:
    scene.fleet.alive(scene.member())
    for _ in range(3):
        scene.fleet.failed(scene.member().id, Failure.CLOSED)
    scene.fleet.apply(make_config(breaker={"failures": 1}), None)
    assert scene.available() == [A]
    scene.fleet.failed(scene.member().id, Failure.CLOSED)
    assert scene.available() == []


def in_pods(make_config: MakeConfig, **first: Any) -> RouterConfig:
    return make_config(models=two(**first))


def test_a_pods_uid_is_the_epoch(make_config: MakeConfig) -> None:
    scene = Scene()
    scene.fleet.apply(make_config(), None, {A: "pod-1"})
    assert scene.member().id == InstanceId(A, "pod-1")
    scene.fleet.reported(scene.member(), EngineReport(start="100.0"))
    scene.fleet.alive(scene.member())
    assert scene.member().id == InstanceId(A, "pod-1"), "its start tells nothing new"
    scene.fleet.reported(scene.member(), EngineReport(start="200.0"))
    assert scene.member().id == InstanceId(A, "pod-1/200.0"), "its container was restarted"


def test_another_pod_at_the_address_is_another_engine(make_config: MakeConfig) -> None:
    scene = Scene()
    scene.fleet.apply(make_config(), None, {A: "pod-1"})
    scene.fleet.alive(scene.member())
    scene.fleet.apply(make_config(), None, {A: "pod-2"})
    assert scene.member().id == InstanceId(A, "pod-2")
    assert InstanceLost(InstanceId(A, "pod-1")) in scene.events
    assert scene.available() == [], "not before it was asked"
    assert scene.suspects == [A]
    scene.fleet.alive(scene.member())
    assert scene.available() == [A]


def test_a_pod_that_comes_back_is_the_same_instance(make_config: MakeConfig) -> None:
    scene = Scene()
    scene.fleet.apply(make_config(), None, {A: "pod-1"})
    scene.fleet.alive(scene.member())
    scene.fleet.apply(make_config(models=[{"name": "llama", "instances": [{"url": B}]}]), None)
    assert scene.fleet.member(A) is None
    scene.fleet.apply(make_config(), None, {A: "pod-1"})
    scene.fleet.alive(scene.member())
    assert scene.member().id == InstanceId(A, "pod-1")
    assert A in scene.available()


def test_another_role_is_told_as_such_and_keeps_the_instance(make_config: MakeConfig) -> None:
    scene = Scene()
    pods = {A: "pod-1", B: "pod-2"}
    scene.fleet.apply(in_pods(make_config, role="decode", connector="nixl", pool="main"), None, pods)
    scene.fleet.alive(scene.member())
    scene.events.clear()
    scene.fleet.apply(in_pods(make_config, role="mixed", connector="nixl", pool="main"), None, pods)
    assert scene.events == [InstanceRole(InstanceId(A, "pod-1"), Role.MIXED)]
    assert A in scene.available()
