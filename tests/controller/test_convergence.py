"""Whatever users do, and wherever the operator ends, is slow to see or is refused: it comes to rest where the spec says."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fake_kubernetes import ConflictError, FakeKubernetes, model_service, pool
from pointsman.controller.reconcile import reconcile
from pointsman.controller.reconcile.actions import Requeue
from pointsman.controller.reconcile.observed import ObservedPool, ObservedService

pytestmark = pytest.mark.timeout(300)  # many seconds of a busy machine, not of a hang

Step = Callable[[FakeKubernetes], None]
View = ObservedService | ObservedPool


class Operator:
    """Passes that are cut short, see old views, and meet conflicts."""

    def __init__(self, kube: FakeKubernetes) -> None:
        self.kube = kube
        self.old_views: list[View] = []

    def look(self) -> None:
        self.old_views = self.kube.observed()

    def run(self, actions: int, *, stale: bool) -> None:
        """So many actions, then it dies."""
        for view in self.old_views if stale else self.kube.observed():
            for action in reconcile(view, self.kube.now):
                if actions == 0:
                    return
                actions -= 1
                try:
                    self.kube.carry_out(action)
                except ConflictError:
                    event("conflict")
                    break


def edit_spec(**changes: Any) -> Step:
    return lambda kube: kube.edit("ModelService", "llama", lambda found: found["spec"].update(changes))


def edit_engine(*args: str) -> Step:
    return edit_spec(engine={"type": "simulated", "args": list(args)})


def nth(kind: str, number: int, act: Callable[[FakeKubernetes, dict[str, Any]], None]) -> Step:
    def step(kube: FakeKubernetes) -> None:
        found = kube.of_kind(kind)
        if found:
            act(kube, found[number % len(found)])

    return step


def delete(kube: FakeKubernetes, found: dict[str, Any]) -> None:
    kube.delete(found["kind"], found["metadata"]["name"])


def meddle(kube: FakeKubernetes, found: dict[str, Any]) -> None:
    def change(deployment: dict[str, Any]) -> None:
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        deployment["metadata"].pop("ownerReferences", None)

    kube.edit("Deployment", found["metadata"]["name"], change)


def scale_to(replicas: int) -> Callable[[FakeKubernetes, dict[str, Any]], None]:
    return lambda kube, found: kube.scale(found["metadata"]["name"], replicas)


numbers = st.integers(0, 5)
edits = st.one_of(
    st.sampled_from(
        [edit_engine(), edit_engine("--speed=2"), edit_engine("--speed=3"), edit_engine("--broken")]
    ),
    st.builds(lambda n: edit_spec(pools=[pool(replicas=n)]), st.integers(0, 3)),
    st.builds(
        lambda n, m: edit_spec(pools=[pool(replicas=n), pool("second", replicas=m)]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    st.builds(
        lambda low: edit_spec(pools=[pool(autoscaling={"minReplicas": low, "maxReplicas": 5})]),
        st.integers(0, 2),
    ),
    st.builds(
        lambda surge, paused: edit_spec(
            rollout={
                "maxSurge": surge,
                "maxUnavailable": 0 if surge else 1,
                "progressDeadlineSeconds": 40,
                "paused": paused,
            }
        ),
        st.integers(0, 2),
        st.booleans(),
    ),
    st.builds(lambda n, r: nth("InstancePool", n, scale_to(r)), numbers, st.integers(0, 3)),
    st.builds(
        lambda kind, n: nth(kind, n, delete),
        st.sampled_from(["Pod", "Deployment", "InstancePool", "ControllerRevision", "PodDisruptionBudget"]),
        numbers,
    ),
    st.builds(lambda n: nth("Deployment", n, meddle), numbers),
)
steps = st.one_of(
    edits.map(lambda step: ("edit", step)),
    st.integers(1, 15).map(lambda seconds: ("wait", seconds)),
    st.just(("look", None)),
    st.tuples(st.integers(0, 12), st.booleans()).map(lambda how: ("run", how)),
)


def at_rest(kube: FakeKubernetes) -> None:
    """Nothing is left to do, nothing is left over, and every pool is as its spec says, or as it was when that worked."""
    writes = kube.writes
    for view in kube.observed():
        assert [action for action in reconcile(view, kube.now) if not isinstance(action, Requeue)] == []
    assert kube.writes == writes
    living = {found["metadata"]["uid"] for found in kube.objects.values()}
    for found in kube.objects.values():
        for owner in found["metadata"].get("ownerReferences", []):
            assert owner["uid"] in living
    spec = kube.objects["ModelService", "llama"]["spec"]
    assert {found["spec"]["pool"] for found in kube.of_kind("InstancePool")} == {
        wanted["name"] for wanted in spec["pools"]
    }
    for found in kube.of_kind("InstancePool"):
        name = found["metadata"]["name"]
        status = found["status"]
        assert len(kube.of_kind("Deployment")) == sum(
            p["spec"]["replicas"] for p in kube.of_kind("InstancePool")
        )
        assert status["replicas"] == found["spec"]["replicas"]
        if "--broken" not in spec["engine"].get("args", []) and not spec["rollout"].get("paused"):
            assert len(kube.serving(name)) == found["spec"]["replicas"]
            assert status["updatedReplicas"] == status["replicas"]
            assert status["failedRevision"] == ""
        elif status["currentRevision"] not in {"", status["updateRevision"]} and found["spec"]["replicas"]:
            assert len(kube.serving(name)) == found["spec"]["replicas"], "what worked goes on working"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25))
def test_it_comes_to_rest_where_the_spec_says(done: list[tuple[str, Any]]) -> None:
    kube = FakeKubernetes()
    rollout = {"maxSurge": 1, "maxUnavailable": 0, "progressDeadlineSeconds": 40}
    kube.create("ModelService", "llama", model_service(rollout=rollout))
    operator = Operator(kube)
    for what, how in done:
        if what == "edit":
            how(kube)
        elif what == "wait":
            for _ in range(how):
                kube.tick()
        elif what == "look":
            operator.look()
        else:
            actions, stale = how
            operator.run(actions, stale=stale)
    kube.settle(240, step_s=2.0)
    at_rest(kube)


@pytest.mark.parametrize("change", ["create", "scale up", "scale down", "roll", "roll back", "remove a pool"])
def test_it_may_end_after_any_single_write(change: str) -> None:
    """As far as a model tells: the same on a real API server is a harness of its own."""

    def begin() -> FakeKubernetes:
        kube = FakeKubernetes()
        kube.create("ModelService", "llama", model_service())
        if change != "create":
            kube.settle(30)
        if change == "scale up":
            kube.scale("llama-main", 4)
        if change == "scale down":
            kube.scale("llama-main", 1)
        if change in {"roll", "roll back"}:
            edit_engine("--speed=2" if change == "roll" else "--broken")(kube)
        if change == "remove a pool":
            edit_spec(pools=[pool("other")])(kube)
        return kube

    def shape(kube: FakeKubernetes) -> list[tuple[str, str]]:
        return sorted((kind, name) for kind, name in kube.objects if kind != "Pod")

    undisturbed = begin()
    undisturbed.settle(130)
    points = 0
    for actions in range(1, 40):
        kube = begin()
        left = actions
        while left and kube.now < undisturbed.now:
            for view in kube.observed():
                for action in reconcile(view, kube.now):
                    if left and not isinstance(action, Requeue):
                        left -= 1
                        kube.carry_out(action)
            kube.tick(2.0)
        if left:
            break
        points += 1
        kube.settle(130, step_s=2.0)
        assert shape(kube) == shape(undisturbed)
        at_rest(kube)
    assert points > 2
