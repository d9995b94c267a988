"""What reconciling decides, carried out by hand on a real API server with fake nodes: without the operator's shell, so that
a wrong decision is told apart from one that was carried out wrongly. Server-side apply, defaults, managed fields and garbage
collection are the cluster's own here.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries, leader_worker_set
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.local import LocalCluster
from pointsman.api.crd.definitions import definitions
from pointsman.api.resources import names
from pointsman.controller.reconcile import reconcile
from pointsman.controller.reconcile.actions import Action, Apply, Delete, PatchStatus, Ref
from pointsman.controller.reconcile.observed import ClusterFacts, ObservedPool, ObservedService

JSON = dict[str, Any]
SERVICES = "modelservices.pointsman.io"
POOLS = "instancepools.pointsman.io"
CHILDREN = "deployments,pods,controllerrevisions,configmaps,poddisruptionbudgets"


class ByHand:
    """Gathers with kubectl, decides, carries out with kubectl."""

    def __init__(self, cluster: LocalCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        cluster.kubectl("create", "namespace", namespace)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def items(self, *arguments: str) -> list[JSON]:
        found = self.kubectl("get", *arguments, "--show-managed-fields", "-o", "json")
        listed: list[JSON] = json.loads(found)["items"]
        return listed

    def one(self, kind: str, name: str) -> JSON:
        found: JSON = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def reconcile(self) -> list[Action]:
        """One pass over everything; what was done."""
        facts = ClusterFacts(own_image="pointsman:test")
        done: list[Action] = []
        for service in self.items(SERVICES):
            pools = self.items(POOLS, f"--selector={names.MODEL_SERVICE}={service['metadata']['name']}")
            done += self.carry_out(
                reconcile(ObservedService(service, tuple(pools), facts=facts), time.time())
            )
        for pool in self.items(POOLS):
            children = self.items(CHILDREN, f"--selector={names.INSTANCE_POOL}={pool['metadata']['name']}")

            def of(kind: str, children: list[JSON] = children) -> tuple[JSON, ...]:
                return tuple(child for child in children if child["kind"] == kind)

            observed = ObservedPool(
                pool,
                workloads=of("Deployment"),
                pods=of("Pod"),
                revisions=of("ControllerRevision"),
                config_maps=of("ConfigMap"),
                disruption_budgets=of("PodDisruptionBudget"),
                facts=facts,
            )
            done += self.carry_out(reconcile(observed, time.time()))
        return done

    def carry_out(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            match action:
                case Apply(wanted):
                    self.kubectl(
                        "apply",
                        "--server-side",
                        "--force-conflicts",
                        "--field-manager=pointsman",
                        "-f",
                        "-",
                        stdin=json.dumps(wanted),
                    )
                case Delete(ref, uid, _, propagation):
                    self.delete(ref, uid, propagation)
                case PatchStatus(ref, _, status):
                    patch = json.dumps({"status": status})
                    kind = f"{ref.kind.lower()}s.pointsman.io"
                    self.kubectl(
                        "patch", kind, ref.name, "--subresource=status", "--type=merge", f"--patch={patch}"
                    )
                case _:
                    pass
        return actions

    def delete(self, ref: Ref, uid: str, propagation: str) -> None:
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "propagationPolicy": propagation,
        }
        group = f"apis/{ref.api_version}" if "/" in ref.api_version else f"api/{ref.api_version}"
        path = f"/{group}/namespaces/{self.namespace}/{ref.kind.lower()}s/{ref.name}"
        self.kubectl("delete", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def apply(self, spec: JSON) -> None:
        service = {
            "apiVersion": names.API_VERSION,
            "kind": "ModelService",
            "metadata": {"name": "llama", "namespace": self.namespace},
            "spec": spec,
        }
        self.cluster.apply(service)

    def settle(self) -> None:
        """Until a whole pass has nothing to do and every pool has what it wants."""

        def at_rest() -> bool:
            return not self.reconcile() and all(
                pool["status"]["readyReplicas"] == pool["spec"]["replicas"] for pool in self.items(POOLS)
            )

        eventually(at_rest, "it does not come to rest")

    def serving(self) -> list[str]:
        """Pods that are ready and not ending, by name."""
        return [
            pod["metadata"]["name"]
            for pod in self.items("pods")
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])
            )
        ]


def served(plane: LocalCluster) -> bool:
    try:
        plane.kubectl("get", f"{SERVICES},{POOLS},leaderworkersets", "--all-namespaces")
    except CommandError:
        return False
    return True


@pytest.fixture(scope="module")
def plane(control_plane: LocalCluster) -> LocalCluster:
    control_plane.apply(*definitions(), *leader_worker_set.definitions())
    eventually(lambda: served(control_plane), "the definitions are not served")
    control_plane.add_fake_nodes(3, gpus=8)
    return control_plane


@pytest.fixture
def hand(plane: LocalCluster, request: pytest.FixtureRequest) -> Iterator[ByHand]:
    name = f"decisions-{abs(hash(request.node.name)) % 10_000}"
    yield ByHand(plane, name)
    plane.kubectl("delete", "namespace", name, "--wait=false")


def spec(replicas: int = 2, *args: str, **pool: Any) -> JSON:
    return {
        "model": {"name": "tiny"},
        "engine": {"type": "simulated", "connector": "nixl", "args": list(args)},
        "pools": [
            {
                "name": "main",
                "replicas": replicas,
                "accelerators": [{"name": "a", "count": 2}],
                "parallelism": {"tensor": 2},
                "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                **pool,
            }
        ],
        "rollout": {"maxSurge": 1, "progressDeadlineSeconds": 10},
    }


def test_it_comes_to_rest_and_then_writes_nothing(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    assert len(hand.serving()) == 2
    before = {
        (i["kind"], i["metadata"]["name"]): i["metadata"]["resourceVersion"] for i in hand.items(CHILDREN)
    }
    assert hand.reconcile() == []
    after = {
        (i["kind"], i["metadata"]["name"]): i["metadata"]["resourceVersion"] for i in hand.items(CHILDREN)
    }
    assert before == after


@pytest.mark.long
def test_kubectl_scale_is_followed_and_kept(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    first = set(hand.serving())
    hand.kubectl("scale", "ipool", "llama-main", "--replicas=3")
    hand.settle()
    assert len(hand.serving()) == 3
    hand.apply(spec(4, "--speed=2"))
    hand.settle()
    assert len(hand.serving()) == 3
    hand.kubectl("scale", "ipool", "llama-main", "--replicas=1")
    hand.settle()
    assert len(hand.serving()) == 1
    assert not first & set(hand.serving())


@pytest.mark.long
def test_switching_autoscaling_on_and_off_keeps_the_number(hand: ByHand) -> None:
    hand.apply(spec(3))
    hand.settle()
    scaled = spec()
    del scaled["pools"][0]["replicas"]
    scaled["pools"][0]["autoscaling"] = {"minReplicas": 1, "maxReplicas": 5}
    hand.apply(scaled)
    hand.settle()
    assert len(hand.serving()) == 3
    hand.kubectl("scale", "ipool", "llama-main", "--replicas=2")
    hand.settle()
    hand.apply(spec(4))
    hand.settle()
    assert hand.one("ipool", "llama-main")["spec"]["replicas"] == 2


def test_a_change_rolls_and_never_serves_less(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    hand.apply(spec(2, "--speed=2"))
    fewest = 2
    for _ in range(40):
        done = hand.reconcile()
        fewest = min(fewest, len(hand.serving()))
        if not done and hand.one("ipool", "llama-main")["status"]["updatedReplicas"] == 2:
            break
    hand.settle()
    assert fewest == 2
    assert all("--speed=2" in pod["spec"]["containers"][0]["args"] for pod in hand.items("pods"))


@pytest.mark.long
def test_a_change_that_fits_no_node_is_rolled_back(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    before = set(hand.serving())
    hand.apply(spec(2, topology={}, resources={"requests": {"cpu": "4000"}}))
    hand.reconcile()

    def rolled_back() -> bool:
        hand.reconcile()
        found = hand.one("msvc", "llama").get("status", {}).get("conditions", [])
        return any(c["type"] == "Degraded" and c["reason"] == "RolledBack" for c in found)

    eventually(rolled_back, "it is not rolled back")
    hand.settle()
    assert set(hand.serving()) == before
    told = next(c for c in hand.one("ipool", "llama-main")["status"]["conditions"] if c["type"] == "Degraded")
    assert "Insufficient cpu" in told["message"]


def test_drift_is_repaired_and_annotations_of_others_stay(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    name = hand.items("deployments")[0]["metadata"]["name"]
    hand.kubectl("set", "image", f"deployment/{name}", "engine=other")
    hand.kubectl("annotate", "deployment", name, "theirs=kept")
    hand.kubectl("scale", "deployment", name, "--replicas=0")
    hand.settle()
    found = hand.one("deployment", name)
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "pointsman:test"
    assert found["metadata"]["annotations"]["theirs"] == "kept"


@pytest.mark.long
def test_deleting_leaves_nothing(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    selector = f"--selector={names.MODEL_SERVICE}=llama"
    assert hand.items(f"{POOLS},{CHILDREN}", selector)
    hand.kubectl("delete", "msvc", "llama", "--wait=false")
    eventually(lambda: not hand.items(f"{POOLS},{CHILDREN}", selector), "something is left")


@pytest.mark.long
def test_instances_of_an_orphaned_pool_are_adopted(hand: ByHand) -> None:
    hand.apply(spec())
    hand.settle()
    before = set(hand.serving())
    hand.kubectl("delete", "ipool", "llama-main", "--cascade=orphan")
    hand.settle()
    assert set(hand.serving()) == before
    uid = hand.one("ipool", "llama-main")["metadata"]["uid"]
    owners = [found["metadata"]["ownerReferences"][0]["uid"] for found in hand.items("deployments")]
    assert owners == [uid, uid]


@pytest.mark.long
def test_what_the_api_server_refuses_is_an_error_of_that_write_only(hand: ByHand) -> None:
    """The shell hands such words back as `refused`; here it is seen that there are such."""
    bad = spec(template={"spec": {"containers": [{"name": "engine", "ports": [{"containerPort": 99999}]}]}})
    hand.apply(bad)
    with pytest.raises(CommandError, match="99999"):
        hand.settle()


GOLDEN = sorted((binaries.PROJECT / "tests" / "controller" / "golden").glob("*.yaml"))


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_api_server_takes_every_object_that_is_built(plane: LocalCluster, file: Path) -> None:
    built = list(yaml.safe_load_all(file.read_text()))
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": built})
    told = plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=items
    )
    assert told.count("serverside-applied") == len(built)


@pytest.mark.long
def test_a_horizontal_autoscaler_takes_over_and_keeps_the_number(hand: ByHand) -> None:
    scaled = spec()
    del scaled["pools"][0]["replicas"]
    scaled["pools"][0]["autoscaling"] = {"minReplicas": 1, "maxReplicas": 5}
    hand.apply(scaled)
    hand.settle()
    assert hand.one("ipool", "llama-main")["spec"]["replicas"] == 1
    # Below its own least an autoscaler acts without metrics, which nothing serves here.
    hand.kubectl(
        "create",
        "-f",
        "-",
        stdin=json.dumps(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "llama"},
                "spec": {
                    "scaleTargetRef": {
                        "apiVersion": names.API_VERSION,
                        "kind": "InstancePool",
                        "name": "llama-main",
                    },
                    "minReplicas": 3,
                    "maxReplicas": 5,
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {
                                "name": "cpu",
                                "target": {"type": "Utilization", "averageUtilization": 60},
                            },
                        }
                    ],
                },
            }
        ),
    )
    eventually(lambda: hand.one("ipool", "llama-main")["spec"]["replicas"] == 3, "it does not scale")
    hand.apply({**scaled, "engine": {**scaled["engine"], "args": ["--speed=2"]}})
    hand.settle()
    assert hand.one("ipool", "llama-main")["spec"]["replicas"] == 3
    assert len(hand.serving()) == 3
