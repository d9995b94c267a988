"""What a pool does over time: scaling, rolling changes, and changes that do not work."""

from dataclasses import replace

from fake_kubernetes import FakeKubernetes, model_service, pool
from pointsman.api.resources import names
from pointsman.controller.reconcile.pool import BURST


def served(**changes: object) -> FakeKubernetes:
    kube = FakeKubernetes()
    kube.create("ModelService", "llama", model_service(**changes))
    kube.settle(30)
    return kube


def set_args(kube: FakeKubernetes, *args: str) -> None:
    def change(found: dict[str, object]) -> None:
        found["spec"]["engine"]["args"] = list(args)  # type: ignore[index]

    kube.edit("ModelService", "llama", change)


def test_a_service_becomes_pools_instances_and_pods() -> None:
    kube = served()
    assert [found["metadata"]["name"] for found in kube.of_kind("InstancePool")] == ["llama-main"]
    assert len(kube.of_kind("Deployment")) == 2
    assert len(kube.serving("llama-main")) == 2
    status = kube.objects["InstancePool", "llama-main"]["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (2, 2, 2)
    assert kube.condition("ModelService", "llama", "PoolsReady")["status"] == "True"
    assert kube.condition("ModelService", "llama", "RouterReady")["status"] == "Unknown"


def test_nothing_is_written_when_all_is_as_it_should_be() -> None:
    kube = served()
    writes = kube.writes
    kube.settle(30)
    assert kube.writes == writes
    assert kube.reconcile() == []


def test_scaling_up_keeps_instances_and_scaling_down_removes_the_newest() -> None:
    kube = served()
    first = {found["metadata"]["name"] for found in kube.of_kind("Deployment")}
    kube.scale("llama-main", 4)
    kube.settle(30)
    assert len(kube.serving("llama-main")) == 4
    kube.scale("llama-main", 2)
    kube.settle(30)
    assert {found["metadata"]["name"] for found in kube.of_kind("Deployment")} == first


def test_many_instances_are_made_and_removed_in_parts_and_their_number_is_told_meanwhile() -> None:
    kube = served()
    kube.scale("llama-main", 3 * BURST)
    told = []
    for _ in range(2):
        kube.reconcile()
        told.append(
            (
                len(kube.of_kind("Deployment")),
                kube.objects["InstancePool", "llama-main"]["status"]["replicas"],
            )
        )
    assert told == [(2 + BURST, 2), (2 + 2 * BURST, 2 + BURST)]
    kube.scale("llama-main", 1)
    kube.reconcile()
    ending = [found for found in kube.of_kind("Deployment") if "deletionTimestamp" in found["metadata"]]
    assert len(ending) == BURST


def test_scaling_down_takes_whom_somebody_named_and_then_who_does_not_serve() -> None:
    kube = served()
    named, other = (found["metadata"]["name"] for found in kube.of_kind("Deployment"))
    kube.edit(
        "Deployment",
        named,
        lambda found: (
            found["metadata"].setdefault("annotations", {}).update({"pointsman.io/remove-first": ""})
        ),
    )
    kube.scale("llama-main", 1)
    kube.settle(30)
    assert [found["metadata"]["name"] for found in kube.of_kind("Deployment")] == [other]


def test_a_deleted_pod_comes_back_as_the_same_instance() -> None:
    kube = served()
    before = {found["metadata"]["uid"] for found in kube.of_kind("Deployment")}
    kube.delete("Pod", kube.pods()[0]["metadata"]["name"])
    kube.settle(30)
    assert {found["metadata"]["uid"] for found in kube.of_kind("Deployment")} == before
    assert len(kube.serving("llama-main")) == 2


def test_a_deleted_instance_is_replaced() -> None:
    kube = served()
    kube.delete("Deployment", kube.of_kind("Deployment")[0]["metadata"]["name"])
    kube.settle(30)
    assert len(kube.serving("llama-main")) == 2


def test_a_change_replaces_instances_one_by_one_and_never_serves_less() -> None:
    kube = served()
    set_args(kube, "--speed=2")
    fewest, most = 9, 0
    for _ in range(60):
        kube.reconcile()
        fewest = min(fewest, len(kube.serving("llama-main")))
        most = max(
            most, len([d for d in kube.of_kind("Deployment") if "deletionTimestamp" not in d["metadata"]])
        )
        kube.tick()
    assert (fewest, most) == (2, 3)
    assert all("--speed=2" in pod["spec"]["containers"][0]["args"] for pod in kube.pods())
    assert kube.objects["InstancePool", "llama-main"]["status"]["updatedReplicas"] == 2


def test_in_place_where_nothing_may_surge() -> None:
    kube = served(rollout={"maxSurge": 0, "maxUnavailable": 1, "progressDeadlineSeconds": 60})
    set_args(kube, "--speed=2")
    fewest, most = 9, 0
    for _ in range(60):
        kube.reconcile()
        fewest = min(fewest, len(kube.serving("llama-main")))
        most = max(
            most, len([d for d in kube.of_kind("Deployment") if "deletionTimestamp" not in d["metadata"]])
        )
        kube.tick()
    assert (fewest, most) == (1, 2)
    assert all("--speed=2" in pod["spec"]["containers"][0]["args"] for pod in kube.pods())


def test_a_change_that_never_works_is_halted_and_rolled_back_and_serves_throughout() -> None:
    kube = served()
    set_args(kube, "--broken")
    fewest = 9
    for _ in range(120):
        kube.reconcile()
        fewest = min(fewest, len(kube.serving("llama-main")))
        kube.tick()
    assert fewest == 2
    assert not [pod for pod in kube.pods() if "--broken" in pod["spec"]["containers"][0]["args"]]
    degraded = kube.condition("ModelService", "llama", "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "RolledBack")
    assert "60 s" in degraded["message"]
    assert [event.reason for event in kube.events].count("RolledBack") == 1
    writes = kube.writes
    kube.settle(200)
    assert kube.writes == writes, "it is not tried again"


def test_after_a_roll_back_another_change_is_tried_and_even_the_failed_one_again_later() -> None:
    kube = served()
    set_args(kube, "--broken")
    kube.settle(120)
    set_args(kube, "--speed=3")
    kube.settle(60)
    assert all("--speed=3" in pod["spec"]["containers"][0]["args"] for pod in kube.pods())
    assert kube.condition("ModelService", "llama", "Degraded")["status"] == "False"
    kube.starts = lambda pod: True
    set_args(kube, "--broken")
    kube.settle(60)
    assert all("--broken" in pod["spec"]["containers"][0]["args"] for pod in kube.pods())


def test_going_back_by_hand_is_a_change_to_a_revision_that_is_known() -> None:
    kube = served()
    set_args(kube, "--speed=2")
    kube.settle(60)
    set_args(kube)
    kube.settle(60)
    assert not [pod for pod in kube.pods() if "--speed=2" in pod["spec"]["containers"][0]["args"]]
    assert len(kube.of_kind("ControllerRevision")) == 2


def test_the_very_first_revision_has_nothing_to_go_back_to_and_says_so() -> None:
    kube = served(engine={"type": "simulated", "args": ["--broken"]})
    kube.settle(120)
    assert len(kube.of_kind("Deployment")) == 2
    degraded = kube.condition("InstancePool", "llama-main", "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "ProgressDeadlineExceeded")


def test_a_change_before_the_first_revision_was_complete_goes_back_to_what_serves() -> None:
    kube = FakeKubernetes()
    kube.create("ModelService", "llama", model_service())
    kube.reconcile()
    for _ in range(10):
        kube.tick()
    set_args(kube, "--broken")
    kube.settle(120)
    assert len(kube.serving("llama-main")) == 2
    assert kube.condition("InstancePool", "llama-main", "Degraded")["reason"] == "RolledBack"


def test_a_paused_change_waits_while_scaling_goes_on_with_what_works() -> None:
    kube = served()
    rollout = {"maxSurge": 1, "maxUnavailable": 0, "progressDeadlineSeconds": 60}

    def pause(*, paused: bool) -> None:
        kube.edit(
            "ModelService", "llama", lambda found: found["spec"].update(rollout={**rollout, "paused": paused})
        )

    pause(paused=True)
    set_args(kube, "--speed=2")
    kube.settle(30)
    kube.scale("llama-main", 3)
    kube.settle(30)
    assert len(kube.serving("llama-main")) == 3
    assert not [pod for pod in kube.pods() if "--speed=2" in pod["spec"]["containers"][0]["args"]]
    assert kube.condition("InstancePool", "llama-main", "Degraded")["reason"] == "Paused"
    pause(paused=False)
    kube.settle(60)
    assert all("--speed=2" in pod["spec"]["containers"][0]["args"] for pod in kube.pods())


def test_drift_is_repaired_and_what_others_added_is_left_alone() -> None:
    kube = served()
    name = kube.of_kind("Deployment")[0]["metadata"]["name"]

    def meddle(found: dict[str, object]) -> None:
        found["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})  # type: ignore[index]
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "other"  # type: ignore[index]
        found["metadata"]["annotations"]["theirs"] = "kept"  # type: ignore[index]

    kube.edit("Deployment", name, meddle)
    kube.settle(30)
    found = kube.objects["Deployment", name]
    assert [c["name"] for c in found["spec"]["template"]["spec"]["containers"]] == ["engine", "sidecar"]
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "pointsman:test"
    assert found["metadata"]["annotations"]["theirs"] == "kept"


def test_instances_that_lost_their_pool_are_adopted_not_made_again() -> None:
    kube = served()
    uids = {found["metadata"]["uid"] for found in kube.of_kind("Deployment")}
    pool_object = kube.objects.pop(("InstancePool", "llama-main"))
    for child in kube.objects.values():
        owners = child["metadata"].get("ownerReferences", [])
        if pool_object["metadata"]["uid"] in [owner["uid"] for owner in owners]:
            child["metadata"]["ownerReferences"] = []  # as `kubectl delete --cascade=orphan` does
    kube.settle(30)
    assert {found["metadata"]["uid"] for found in kube.of_kind("Deployment")} == uids
    owner = kube.objects["InstancePool", "llama-main"]["metadata"]["uid"]
    assert all(
        found["metadata"]["ownerReferences"][0]["uid"] == owner for found in kube.of_kind("Deployment")
    )


def test_deleting_the_service_leaves_nothing() -> None:
    kube = served()
    kube.delete("ModelService", "llama")
    kube.settle(60)
    assert not kube.objects


def test_unused_revisions_are_forgotten() -> None:
    kube = served()
    for speed in range(2, 8):
        set_args(kube, f"--speed={speed}")
        kube.settle(60)
    assert len(kube.of_kind("ControllerRevision")) == 3
    assert len(kube.serving("llama-main")) == 2


def test_an_instance_over_several_nodes_needs_the_api_and_says_so() -> None:
    spec = model_service(pools=[pool(parallelism={"nodes": 2}, replicas=1)])
    kube = FakeKubernetes()
    kube.create("ModelService", "llama", spec)
    kube.settle(10)
    assert kube.condition("InstancePool", "llama-main", "Degraded")["reason"] == "LeaderWorkerSetMissing"
    assert not kube.of_kind("LeaderWorkerSet")
    able = FakeKubernetes(leader_worker_sets=True)
    able.create("ModelService", "llama", spec)
    able.settle(30)
    (made,) = able.of_kind("LeaderWorkerSet")
    assert made["spec"]["leaderWorkerTemplate"]["size"] == 2
    worker = made["spec"]["leaderWorkerTemplate"]["workerTemplate"]["metadata"]["labels"]
    assert worker[names.COMPONENT] == "engine-worker"
    assert able.condition("InstancePool", "llama-main", "Ready")["status"] == "True"


def test_whom_the_operator_is_told_of_may_reach_engines_and_nobody_else() -> None:
    routers = {"podSelector": {"matchLabels": {names.COMPONENT: "router"}}}
    kube = FakeKubernetes()
    kube.facts = replace(kube.facts, engine_peers=(routers,))
    kube.create("ModelService", "llama", model_service())
    kube.settle(30)
    (policy,) = kube.of_kind("NetworkPolicy")
    assert policy["metadata"]["name"] == "llama-main"
    assert policy["spec"]["podSelector"] == {"matchLabels": {names.INSTANCE_POOL: "llama-main"}}
    engines, told = policy["spec"]["ingress"][0]["from"]
    assert told == routers
    assert engines["podSelector"]["matchExpressions"][0]["values"] == ["engine", "engine-worker"]
    assert kube.reconcile() == []
    assert not served().of_kind("NetworkPolicy")
