"""A ModelService: who sets replicas, what budgets allow, what conditions say."""

from typing import Any

import pytest

from fake_kubernetes import FakeKubernetes, model_service, pool
from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.controller.objects.pools import members
from pointsman.controller.reconcile.actions import Apply
from pointsman.controller.reconcile.observed import LiveFigures, ObservedService, RouterReport
from pointsman.controller.reconcile.profiles import matching_profile
from pointsman.controller.reconcile.service import reconcile_service

AUTOSCALED = pool(autoscaling={"minReplicas": 1, "maxReplicas": 8})


def served(**changes: Any) -> FakeKubernetes:
    kube = FakeKubernetes()
    kube.create("ModelService", "llama", model_service(**changes))
    kube.settle(30)
    return kube


def set_pools(kube: FakeKubernetes, *pools: dict[str, Any]) -> None:
    kube.edit("ModelService", "llama", lambda found: found["spec"].update(pools=list(pools)))
    kube.settle(30)


def replicas(kube: FakeKubernetes, name: str = "llama-main") -> int:
    return int(kube.objects["InstancePool", name]["spec"]["replicas"])


def test_the_number_in_the_spec_is_followed() -> None:
    kube = served()
    set_pools(kube, pool(replicas=3))
    assert replicas(kube) == 3


def test_a_number_that_somebody_scaled_to_stays_even_when_the_spec_changes() -> None:
    kube = served()
    kube.scale("llama-main", 4)
    kube.settle(10)
    set_pools(kube, pool(replicas=3, args=["--speed=2"]))
    assert replicas(kube) == 4
    degraded = kube.condition("ModelService", "llama", "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("False", "ScaledByOthers")
    assert "kubectl" in degraded["message"]


def test_an_autoscaled_pool_begins_at_its_least_and_is_then_left_to_who_scales() -> None:
    kube = served(pools=[AUTOSCALED])
    assert replicas(kube) == 1
    kube.scale("llama-main", 5, manager="horizontal-pod-autoscaler")
    kube.settle(30)
    assert replicas(kube) == 5


@pytest.mark.parametrize("scaled", [None, 5])
def test_switching_autoscaling_on_and_off_keeps_the_number(scaled: int | None) -> None:
    kube = served()
    set_pools(kube, AUTOSCALED)
    assert replicas(kube) == 2
    if scaled is not None:
        kube.scale("llama-main", scaled, manager="horizontal-pod-autoscaler")
        kube.settle(10)
        set_pools(kube, pool(replicas=3))
        assert replicas(kube) == 5
    else:
        set_pools(kube, pool(replicas=2))
        assert replicas(kube) == 2


def test_a_number_is_never_written_over_one_that_came_in_between() -> None:
    kube = served()
    kube.edit("ModelService", "llama", lambda found: found["spec"].update(pools=[pool(replicas=3)]))
    (view,) = (view for view in kube.observed() if isinstance(view, ObservedService))
    (apply,) = (action for action in reconcile_service(view, kube.now) if isinstance(action, Apply))
    version = kube.objects["InstancePool", "llama-main"]["metadata"]["resourceVersion"]
    assert apply.object["metadata"]["resourceVersion"] == version


def test_shapes_of_one_pool_are_pools_of_their_own_and_summed_in_the_status() -> None:
    shapes = [{"name": name, "count": 0} for name in ("small", "large")]
    kube = served(pools=[pool(accelerators=shapes, replicas=1)])
    assert {found["metadata"]["name"] for found in kube.of_kind("InstancePool")} == {
        "llama-main-small",
        "llama-main-large",
    }
    (status,) = kube.objects["ModelService", "llama"]["status"]["pools"]
    assert (status["name"], status["readyReplicas"], status["desiredReplicas"]) == ("main", 2, 2)


def set_shapes(kube: FakeKubernetes, *shapes: str) -> None:
    set_pools(kube, pool(accelerators=[{"name": name, "count": 0} for name in shapes], replicas=1))


def shapes(kube: FakeKubernetes) -> dict[str, str]:
    """Of each InstancePool."""
    return {
        found["metadata"]["name"]: found["spec"]["accelerator"]["name"]
        for found in kube.of_kind("InstancePool")
    }


def test_another_shape_is_another_pool_and_one_that_stays_keeps_its_instances() -> None:
    """An InstancePool's shape cannot be changed, so none is asked to."""
    kube = served(pools=[pool(accelerators=[{"name": "small", "count": 0}], replicas=1)])
    (first,) = kube.serving("llama-main")
    set_shapes(kube, "small", "large")
    assert shapes(kube) == {"llama-main": "small", "llama-main-large": "large"}
    assert kube.serving("llama-main") == [first]
    set_shapes(kube, "large")
    assert shapes(kube) == {"llama-main-large": "large"}
    set_shapes(kube, "small")
    assert shapes(kube) == {"llama-main": "small"}
    set_shapes(kube, "huge")
    assert shapes(kube) == {"llama-main-huge": "huge"}
    assert len(kube.serving("llama-main-huge")) == 1


def test_pools_that_would_be_called_alike_are_told_apart_by_the_shape() -> None:
    shapes = [{"name": name, "count": 0} for name in ("small", "large")]
    kube = served(
        pools=[pool("a", accelerators=shapes, replicas=1), pool("a-large", replicas=1, args=["--speed=2"])]
    )
    assert {found["metadata"]["name"] for found in kube.of_kind("InstancePool")} == {
        "llama-a-small",
        "llama-a-large",
        "llama-a-large-none",
    }
    writes = kube.writes
    kube.settle(20)
    assert kube.writes == writes


def test_a_pool_that_comes_back_as_another_waits_for_the_name_of_the_one_that_leaves() -> None:
    kube = served(pools=[pool("other"), pool(role="prefill", replicas=1)])
    kube.edit("ModelService", "llama", lambda found: found["spec"].update(pools=[pool("other")]))
    kube.edit(
        "ModelService", "llama", lambda found: found["spec"].update(pools=[pool("other"), pool(replicas=1)])
    )
    kube.settle(60)
    roles = {found["metadata"]["name"]: found["spec"]["role"] for found in kube.of_kind("InstancePool")}
    assert roles == {"llama-other": "mixed", "llama-main-none": "mixed"}


def test_a_removed_pool_goes_when_the_others_serve() -> None:
    kube = served()
    kube.edit("ModelService", "llama", lambda found: found["spec"].update(pools=[pool("other")]))
    fewest = 9
    for _ in range(40):
        kube.reconcile()
        kube.tick()
        fewest = min(fewest, len(kube.serving("llama-main")) + len(kube.serving("llama-other")))
    assert fewest >= 2
    assert [found["metadata"]["name"] for found in kube.of_kind("InstancePool")] == ["llama-other"]


def test_a_removed_pool_does_not_wait_for_ever() -> None:
    kube = served()
    kube.edit(
        "ModelService", "llama", lambda found: found["spec"].update(pools=[pool("other", args=["--broken"])])
    )
    kube.settle(100)
    assert [found["metadata"]["name"] for found in kube.of_kind("InstancePool")] == ["llama-other"]


GPUS = [{"name": "h100", "resource": "nvidia.com/gpu", "count": 2}]


@pytest.mark.parametrize(
    ("budget", "given", "surge", "unavailable", "limited"),
    [
        (16, 3, 1, 0, "NotLimited"),
        (8, 3, 1, 0, "NotLimited"),
        (7, 3, 0, 1, "NotLimited"),
        (4, 2, 0, 1, "Budget"),
    ],
)
def test_the_budget_bounds_what_runs_and_what_surges(
    budget: int, given: int, surge: int, unavailable: int, limited: str
) -> None:
    kube = served(
        pools=[pool(accelerators=GPUS, replicas=3)], budget={"accelerators": {"nvidia.com/gpu": budget}}
    )
    rollout = kube.objects["InstancePool", "llama-main"]["spec"]["rollout"]
    assert (replicas(kube), rollout["maxSurge"], rollout["maxUnavailable"]) == (given, surge, unavailable)
    assert kube.condition("ModelService", "llama", "ScalingLimited")["reason"] == limited


def profile(capacity: int, **changes: Any) -> dict[str, Any]:
    spec = {
        "model": "tiny",
        "engine": "vllm",
        "accelerator": "h100",
        "acceleratorClass": "h100",
        "tensorParallel": 1,
        "cost": {"t0Ps": 1, "tpPs": 1, "taPs": 0, "tbPs": 0, "tcPs": 0},
        "kvCapacityTokens": capacity,
        "kvBytesPerToken": 1000,
        "transferBytesPerS": 1e9,
        "provenance": {
            "source": "made up",
            "licence": "none",
            "method": "none",
            "pointsUsed": 1,
            "leftOut": {},
            "kvCapacity": "made up",
            "kvBytesPerToken": "made up",
            "transfer": "made up",
        },
        **changes,
    }
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "EngineProfile",
        "metadata": {"name": "fast"},
        "spec": spec,
    }


def with_profile(found: dict[str, Any] | None, context: int = 0, **shape: Any) -> FakeKubernetes:
    kube = FakeKubernetes()
    kube.profiles = () if found is None else (found,)
    accelerators = [{"name": "h100", "count": 1, **shape}]
    engine = {"type": "vllm", "image": "vllm"}
    source = {"hub": {"id": "org/tiny"}}
    spec = model_service(
        pools=[pool(accelerators=accelerators)],
        engine=engine,
        model={"name": "tiny", "source": source, "contextTokens": context},
    )
    kube.create("ModelService", "llama", spec)
    kube.settle(20)
    return kube


def test_an_unknown_profile_is_said_and_stops_no_real_engine() -> None:
    kube = with_profile(profile(9000), profile="slow")
    told = kube.condition("ModelService", "llama", "ProfileResolved")
    assert (told["status"], told["reason"]) == ("False", "ProfileUnknown")
    assert "'slow'" in told["message"]
    assert "fast" in told["message"]
    assert len(kube.serving("llama-main")) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "sglang"}, "it is of sglang, the pool's engine is vllm"),
        ({"tensorParallel": 4}, "its tensor parallel degree is 4, the pool's is 1"),
    ],
)
def test_a_named_profile_of_other_instances_is_said_and_stops_no_real_engine(
    changes: dict[str, Any], said: str
) -> None:
    """The model would not fit what such a profile holds, which says nothing of these instances."""
    kube = with_profile(profile(9000, **changes), context=10_000, profile="fast")
    told = kube.condition("ModelService", "llama", "ProfileResolved")
    assert (told["status"], told["reason"]) == ("False", "ProfileMismatch")
    assert said in told["message"]
    assert len(kube.serving("llama-main")) == 2


def test_a_named_profile_may_be_another_models() -> None:
    kube = with_profile(profile(9000, model="org/base"), profile="fast")
    assert kube.condition("ModelService", "llama", "ProfileResolved")["reason"] == "Resolved"


def test_a_profile_that_fits_is_found_without_being_named() -> None:
    kube = with_profile(profile(9000))
    assert kube.objects["InstancePool", "llama-main"]["spec"]["accelerator"]["profile"] == "fast"
    assert kube.condition("ModelService", "llama", "ProfileResolved")["reason"] == "Resolved"


def named_profile(name: str, **changes: Any) -> dict[str, Any]:
    return {**profile(9000, **changes), "metadata": {"name": name}}


@pytest.mark.parametrize(
    ("shape", "parallelism", "accelerators", "found"),
    [
        pytest.param("h100", {}, ["h100_sxm"], "p0", id="a kind of it"),
        pytest.param("h100x8", {}, ["h100_sxm"], "p0", id="so many of a kind of it"),
        pytest.param(
            "h100-sxm", {}, ["h100-pcie", "H100_SXM"], "p1", id="this kind, as a shape can be named"
        ),
        pytest.param("h100", {}, ["h100_sxm", "h100"], "p1", id="itself before a kind of it"),
        pytest.param("h100", {}, ["h100_sxm", "h100_sxm"], "p0", id="two of one kind"),
        pytest.param("h100", {}, ["h100_sxm", "h100-80gb"], None, id="two kinds"),
        pytest.param("h100x8", {}, ["h100x8", "h100"], "p0", id="a profile of the count"),
        pytest.param("h100", {}, ["h1000", "a100_sxm", "gh100"], None, id="others that sound alike"),
        pytest.param("l40", {}, ["l40s"], None, id="another model of the family"),
        pytest.param("h100", {"tensor": 2}, ["h100_sxm"], None, id="another degree"),
        pytest.param("h100", {"pipeline": 2}, ["h100"], None, id="pipelined"),
        pytest.param("h100", {"data": 2}, ["h100"], None, id="data parallel"),
    ],
)
def test_profiles_are_found_by_what_a_shape_is_called(
    shape: str, parallelism: dict[str, int], accelerators: list[str], found: str | None
) -> None:
    spec = ModelServiceSpec.from_wire(
        model_service(
            pools=[pool(accelerators=[{"name": shape, "count": 1}], parallelism=parallelism)],
            engine={"type": "vllm", "image": "vllm"},
            model={"name": "tiny", "source": {"hub": {"id": "org/tiny"}}},
        )
    )
    (member,) = members("llama", spec)
    profiles = [named_profile(f"p{index}", accelerator=name) for index, name in enumerate(accelerators)]
    assert matching_profile(spec, member, profiles) == found


def test_a_model_larger_than_the_memory_is_a_condition_and_no_crash_loop() -> None:
    kube = with_profile(profile(9000), context=10_000)
    told = kube.condition("ModelService", "llama", "ProfileResolved")
    assert (told["status"], told["reason"]) == ("False", "ModelDoesNotFit")
    assert "9000" in told["message"]
    assert not kube.of_kind("Deployment")
    assert kube.condition("ModelService", "llama", "Ready")["status"] == "False"


@pytest.mark.parametrize(
    ("routers", "status", "reason"),
    [
        (None, "Unknown", "RoutersNotAsked"),
        ((), "False", "NoRouter"),
        ((RouterReport("r", ready=True),), "False", "NotLoaded"),
        ((RouterReport("r", ready=True, generations={"default/llama": 0}),), "False", "GenerationNotLoaded"),
        (
            (RouterReport("r", ready=True), RouterReport("s", ready=True, generations={"default/llama": 1})),
            "True",
            "Loaded",
        ),
    ],
)
def test_whether_a_router_knows_this_generation(
    routers: tuple[RouterReport, ...] | None, status: str, reason: str
) -> None:
    kube = FakeKubernetes()
    kube.routers = routers
    kube.create("ModelService", "llama", model_service())
    kube.settle(20)
    for which in ("RouterReady", "Ready"):
        told = kube.condition("ModelService", "llama", which)
        assert (told["status"], told["reason"]) in {(status, reason), ("True", "Serving")}
    assert kube.condition("ModelService", "llama", "RouterReady")["reason"] == reason


def test_live_figures_are_unknown_until_somebody_has_them_and_then_written_now_and_then() -> None:
    kube = served()
    assert kube.condition("ModelService", "llama", "SLOAttained")["reason"] == "NoLiveFigures"
    (view,) = (view for view in kube.observed() if isinstance(view, ObservedService))

    def pass_at(now: float, share: float) -> dict[str, Any]:
        live = LiveFigures(as_of=now, slo_attainment=share)
        seen = ObservedService(kube.objects["ModelService", "llama"], view.pools, live=live)
        for action in reconcile_service(seen, now):
            kube.carry_out(action)
        return dict(kube.objects["ModelService", "llama"]["status"])

    assert pass_at(kube.now, 0.9851)["sloAttainment"] == "98.5%"
    assert pass_at(kube.now + 5, 0.97)["sloAttainment"] == "98.5%"
    assert pass_at(kube.now + 31, 0.97)["sloAttainment"] == "97.0%"


def test_a_pool_of_that_name_that_belongs_to_others_is_not_touched() -> None:
    kube = FakeKubernetes()
    theirs = kube.create("InstancePool", "llama-main", {"replicas": 1, "role": "mixed"})
    theirs["metadata"]["labels"] = {"pointsman.io/model-service": "llama"}
    theirs["metadata"]["ownerReferences"] = [{"uid": "somebody", "controller": True}]
    service = kube.create("ModelService", "llama", model_service())
    seen = ObservedService(service, (theirs,))
    assert not [action for action in reconcile_service(seen, kube.now) if isinstance(action, Apply)]


def test_what_cannot_be_read_is_said_and_changes_nothing() -> None:
    kube = served()
    kube.edit("ModelService", "llama", lambda found: found["spec"].update(engine={"type": "unheard-of"}))
    kube.settle(10)
    degraded = kube.condition("ModelService", "llama", "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "SpecInvalid")
    assert degraded["message"].startswith("spec.engine.type: ")
    assert len(kube.serving("llama-main")) == 2
