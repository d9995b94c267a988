"""What a pool's spec asks instances to be, or why it cannot be had. What only the operator can know becomes a condition
here, before any engine is started that could not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from pointsman.api.resources.conditions import ConditionType
from pointsman.api.resources.engine import EngineType
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.blueprint import Blueprint, blueprint
from pointsman.controller.objects.merge import TemplateError
from pointsman.controller.objects.pod import Image
from pointsman.controller.reconcile.actions import Object
from pointsman.controller.reconcile.conditions import Verdict
from pointsman.controller.reconcile.observed import ClusterFacts

PROFILE = ConditionType.PROFILE_RESOLVED


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted; without a blueprint nothing new is made, and what runs goes on."""

    blueprint: Blueprint | None
    profile: Verdict
    problem: Verdict | None = None
    """A Degraded that says why there is no blueprint."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile that a spec means."""

    verdict: Verdict
    found: EngineProfile | None = None
    fits: bool = True


def profile_of(spec: InstancePoolSpec, profiles: Sequence[Object]) -> Profile:
    """The named profile, and whether the model fits what it holds."""
    name = spec.accelerator.profile
    if name is None:
        return Profile(
            Verdict(PROFILE, "True", "NotNamed", "no profile is named and none is needed to serve")
        )
    known = {str(profile["metadata"]["name"]): profile for profile in profiles}
    if name not in known:
        there_are = ", ".join(sorted(known)[:10]) or "none"
        message = f"there is no EngineProfile {name!r}; there are: {there_are}"
        return Profile(Verdict(PROFILE, "False", "ProfileUnknown", message))
    try:
        found = EngineProfile.from_wire(known[name])
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = f"EngineProfile {name!r} cannot be used: {where}: {fault['msg']}"
        return Profile(Verdict(PROFILE, "False", "ProfileInvalid", message))
    if other := _made_for_another(spec, found):
        message = f"EngineProfile {name!r} is not of such instances: {other}. Name another, or none to have it looked for"
        return Profile(Verdict(PROFILE, "False", "ProfileMismatch", message))
    capacity = found.spec.kv_capacity_tokens
    if spec.model.context_tokens > capacity:
        message = (
            f"model.contextTokens is {spec.model.context_tokens}, but beside the model an instance on"
            f" {spec.accelerator.name!r} has memory for {capacity} tokens (EngineProfile {name!r}): engines would not"
            " start. Lower contextTokens, or give an instance more accelerators"
        )
        return Profile(Verdict(PROFILE, "False", "ModelDoesNotFit", message), found, fits=False)
    return Profile(Verdict(PROFILE, "True", "Resolved", f"EngineProfile {name!r}"), found)


def _made_for_another(spec: InstancePoolSpec, profile: EngineProfile) -> str:
    """How a profile's engine differs from the pool's; empty where it does not.

    Another model is no difference: one that was trained further is as fast. A simulated engine runs by whatever is named.
    """
    if spec.engine.type is EngineType.SIMULATED:
        return ""
    engine, tensor = spec.engine.type.value, spec.parallelism.tensor
    if profile.spec.engine != engine:
        return f"it is of {profile.spec.engine}, the pool's engine is {engine}"
    if profile.spec.tensor_parallel != tensor:
        return f"its tensor parallel degree is {profile.spec.tensor_parallel}, the pool's is {tensor}"
    return ""


def wish_of(pool: str, spec: InstancePoolSpec, profiles: Sequence[Object], facts: ClusterFacts) -> Wish:
    """What instances should be made from."""
    profile = profile_of(spec, profiles)

    def refused(reason: str, message: str) -> Wish:
        return Wish(None, profile.verdict, Verdict(ConditionType.DEGRADED, "True", reason, message))

    if not profile.fits:
        return refused("ModelDoesNotFit", profile.verdict.message)
    simulated = spec.engine.type is EngineType.SIMULATED
    if simulated and spec.accelerator.profile is not None and profile.found is None:
        return refused(profile.verdict.reason, f"{profile.verdict.message}: a simulated engine runs by it")
    if spec.parallelism.nodes > 1 and not facts.leader_worker_sets:
        return refused(
            "LeaderWorkerSetMissing",
            f"parallelism.nodes is {spec.parallelism.nodes}, which needs LeaderWorkerSet"
            " (leaderworkerset.x-k8s.io/v1), and this cluster does not serve it: install it, or use 1 node",
        )
    if not (spec.engine.image or facts.own_image):
        return refused(
            "ImageMissing", "engine.image is not given, and the operator was not told its own image"
        )
    try:
        own = Image(facts.own_image, facts.own_pull_secrets)
        return Wish(blueprint(pool, spec, own, profile.found), profile.verdict)
    except TemplateError as error:
        return refused("TemplateInvalid", f"pool template cannot be merged: {error}")
