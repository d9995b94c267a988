"""What changes and failures cost in failed requests, on real nodes: the chart, the operator, simulated engines, under load.

Every scenario adds a line to a table, which is printed at the end and kept with the artefacts: docs/kubernetes-failures.md.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from e2e.cluster.cluster import Cluster, eventually
from e2e.cluster.load import Fate
from e2e.cluster.local import LocalCluster
from e2e.cluster.released import JSON, RATE, Released, pool, released, simulated

pytestmark = pytest.mark.asks_services

AFTER_SECONDS = 10.0
"""That the load goes on once a change has ended."""

RUNNING = """
import urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode().splitlines()
print(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{")))
"""
# Runs beside the nodes' processes: the first one of a container takes no SIGKILL from inside.
KILL = """
import os, pathlib, signal, sys
name = f"HOSTNAME={sys.argv[1]}".encode()
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if name in (process / "environ").read_bytes().split(bytes(1)):
            os.kill(int(process.name), signal.SIGKILL)
    except OSError:
        pass
"""


class Table:
    """Scenarios and what they cost."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(self, scenario: str, fate: Fate, note: str = "") -> None:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in fate.reasons.items())
        self.rows.append(f"| {scenario} | {fate.requests} | {fate.failed} | {note or reasons} |")

    def text(self) -> str:
        return "\n".join(["| what happens | requests | failed | |", "|---|---|---|---|", *self.rows, ""])


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    made = Table()
    yield made
    folder: Path = pytestconfig.getoption("--artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kubernetes-failures.md").write_text(made.text())
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("\n" + made.text())


def spec(*args: str) -> JSON:
    return simulated(*args, pools=[pool(replicas=2)])


@pytest.fixture(scope="module")
def service(
    cluster: Cluster, image_values: JSON, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    with released(cluster, "failures", tmp_path_factory.mktemp("load"), image_values, operators=2) as made:
        made.apply(spec())
        eventually(lambda: made.settled(2), "the pool has no two instances that serve", 180)
        eventually(made.ready, "the service is not ready", 60)
        yield made


@pytest.fixture(autouse=True)
def as_before(service: Released) -> None:
    """Every scenario begins with two instances of the same kind."""
    service.apply(spec())
    service.namespace.kubectl("scale", "ipool", "tiny-main", "--replicas=2")
    eventually(lambda: service.settled(2), "the service does not come to rest", 180)


@pytest.mark.timeout(600)
def test_scaling_up_and_down_costs_no_request(service: Released, table: Table) -> None:
    def act() -> None:
        for replicas in (4, 2):
            service.namespace.kubectl("scale", "ipool", "tiny-main", f"--replicas={replicas}")
            eventually(partial(service.settled, replicas), f"not {replicas} instances", 120)

    fate = service.under_load(90, act, after=AFTER_SECONDS)
    table.add("`kubectl scale ipool` from 2 to 4 and back", fate)
    assert fate.failed == 0, fate.reasons


@pytest.mark.timeout(600)
def test_a_rolling_change_costs_no_request(service: Released, table: Table) -> None:
    before = set(service.pods("engine"))

    def act() -> None:
        service.apply(spec("--seed=7"))
        eventually(
            lambda: service.settled(2) and not before & set(service.pods("engine")), "it does not roll", 150
        )

    fate = service.under_load(120, act, after=AFTER_SECONDS)
    table.add("rolling change of the engines' arguments", fate)
    assert fate.failed == 0, fate.reasons


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_change_that_never_becomes_ready_is_rolled_back_and_costs_no_request(
    service: Released, table: Table
) -> None:
    before = set(service.pods("engine"))

    def act() -> None:
        service.apply(spec("--no-such-argument"))
        eventually(
            lambda: service.condition("Degraded").get("reason") == "RolledBack", "it is not rolled back", 120
        )
        eventually(lambda: set(service.pods("engine")) == before, "what failed is still there", 60)

    fate = service.under_load(120, act)
    table.add("change whose engines never become ready: halted after 30 s, rolled back", fate)
    assert fate.failed == 0, fate.reasons
    assert "exit code 2" in service.condition("Degraded")["message"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_deleted_engine_pod_costs_no_request(service: Released, table: Table) -> None:
    def act() -> None:
        service.namespace.kubectl("delete", "pod", service.pods("engine")[0], "--wait=false")
        eventually(lambda: len(service.pods("engine")) == 2 and service.settled(2), "no pod comes back", 120)

    fate = service.under_load(60, act)
    table.add("an engine's pod deleted", fate)
    assert fate.failed == 0, fate.reasons


@pytest.mark.long
@pytest.mark.local_cluster
@pytest.mark.timeout(600)
def test_a_killed_engine_costs_no_more_than_what_it_was_answering(service: Released, table: Table) -> None:
    victim = service.pods("engine")[0]
    running: list[float] = []

    def restarts() -> int:
        (container,) = service.namespace.get("pod", victim)["status"]["containerStatuses"]
        return int(container["restartCount"])

    def act() -> None:
        running.append(float(service.namespace.kubectl("exec", victim, "--", "python3", "-c", RUNNING)))
        service.cluster.run([sys.executable, "-c", KILL, victim])
        eventually(lambda: restarts() == 1 and service.settled(2), "its container does not come back", 120)

    fate = service.under_load(60, act)
    table.add(f"an engine's process killed while it had {running[0]:.0f} requests", fate)
    assert fate.failed <= running[0] + RATE, fate.reasons


@pytest.mark.long
@pytest.mark.kills_nodes
@pytest.mark.timeout(600)
def test_a_lost_node(service: Released, table: Table) -> None:
    cluster = service.cluster
    node = cluster.nodes()[1]

    def act() -> None:
        cluster.kill_node(node)
        eventually(lambda: not cluster.node_is_ready(node), "the node still counts as ready", 90)
        time.sleep(10)

    try:
        fate = service.under_load(100, act)
    finally:
        cluster.revive_node(node)
    eventually(lambda: cluster.node_is_ready(node), "the node does not come back")
    table.add("a node's kubelet and containerd die; its containers live on", fate)
    assert fate.failed <= RATE * 5, fate.reasons


@pytest.mark.long
@pytest.mark.local_cluster
@pytest.mark.timeout(600)
def test_a_node_that_is_cut_off(service: Released, table: Table) -> None:
    """With its engine, and with a router where one is there: nobody tells clients that what they wait for is gone."""
    cluster = service.cluster
    assert isinstance(cluster, LocalCluster)
    node = cluster.nodes()[1]
    lost = [
        each["metadata"]["labels"]["app.kubernetes.io/component"]
        for each in service.namespace.get("pods")["items"]
        if each["spec"]["nodeName"] == node
    ]

    def act() -> None:
        cluster.cut_off(node)
        eventually(lambda: not cluster.node_is_ready(node), "the node still counts as ready", 90)
        time.sleep(30)

    try:
        fate = service.under_load(120, act)
    finally:
        cluster.join(node)
    eventually(lambda: cluster.node_is_ready(node), "the node does not come back")
    table.add(f"a node cut off the network, with {', '.join(sorted(lost))}", fate)
    assert fate.failed < fate.requests / 2, fate.reasons


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_killed_leader_costs_no_request_and_another_goes_on(service: Released, table: Table) -> None:
    lease = service.namespace.get("lease", "pointsman-operator")["spec"]["holderIdentity"]
    leader = next(pod for pod in service.pods("operator") if pod in lease)
    took: list[float] = []

    def act() -> None:
        service.namespace.kubectl("delete", "pod", leader, "--force", "--grace-period=0", "--wait=false")
        begun = time.monotonic()
        service.namespace.kubectl("scale", "ipool", "tiny-main", "--replicas=3")
        eventually(lambda: service.pool()["status"]["replicas"] == 3, "nobody acts", 60)
        took.append(time.monotonic() - begun)
        eventually(lambda: service.settled(3), "the third instance does not serve", 60)

    fate = service.under_load(60, act)
    table.add("the operator's leader killed", fate, f"the other one acts after {took[0]:.0f} s")
    assert fate.failed == 0, fate.reasons


@pytest.mark.long
@pytest.mark.timeout(600)
def test_redis_deleted_costs_no_request(service: Released, table: Table) -> None:
    def act() -> None:
        service.namespace.kubectl(
            "delete", "pod", "--selector=app.kubernetes.io/component=redis", "--wait=false"
        )
        time.sleep(15)

    fate = service.under_load(40, act)
    table.add("Redis deleted (nothing is kept in it yet)", fate)
    assert fate.failed == 0, fate.reasons


@pytest.mark.long
@pytest.mark.local_cluster
@pytest.mark.timeout(600)
def test_an_api_server_that_is_away_for_a_minute_costs_no_request(service: Released, table: Table) -> None:
    cluster = service.cluster
    assert isinstance(cluster, LocalCluster)
    plane = cluster.control_plane

    def act() -> None:
        plane.sandbox.kill("kube-apiserver")
        time.sleep(60)
        plane.sandbox.start_again("kube-apiserver")
        plane.wait_until_ready()
        time.sleep(10)

    fate = service.under_load(110, act)
    table.add("the API server away for a minute", fate)
    assert fate.failed == 0, fate.reasons
    service.namespace.kubectl("scale", "ipool", "tiny-main", "--replicas=3")
    eventually(lambda: service.settled(3), "the operator does not go on", 120)
