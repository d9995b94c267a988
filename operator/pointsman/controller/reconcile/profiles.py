"""Which EngineProfile is meant where a spec names none."""

import re
from collections.abc import Sequence

from pointsman.api.resources.engine import EngineType
from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.controller.objects.pools import Member
from pointsman.controller.reconcile.actions import Object

#: What people end a shape's name with to say how many accelerators it has: `h100x8`.
COUNT = re.compile(r"x\d+$")


def matching_profile(spec: ModelServiceSpec, member: Member, profiles: Sequence[Object]) -> str | None:
    """The profile of this model, engine, accelerator and tensor parallel degree; the first by name of several.

    The shape `h100`, or `h100x8`, also means a profile's `h100_sxm`, unless profiles of several kinds of it fit: a guess
    could stop engines that would run. For the same reason none is found for pipeline and data parallelism, of which
    profiles say nothing. Never for a simulated engine: by which profile it runs is what its user chooses.
    """
    degrees = member.pool.parallelism
    if spec.engine.type is EngineType.SIMULATED or degrees.pipeline > 1 or degrees.data > 1:
        return None
    source = spec.model.source
    models = {
        spec.model.name,
        source.hub.id if source is not None and source.hub is not None else spec.model.name,
    }
    by_accelerator: dict[str, list[str]] = {}
    for profile in profiles:
        fields = profile.get("spec", {})
        if (
            fields.get("model") in models
            and fields.get("engine") == spec.engine.type.value
            and fields.get("tensorParallel") == degrees.tensor
        ):
            accelerator = _plain(str(fields.get("accelerator", "")))
            by_accelerator.setdefault(accelerator, []).append(str(profile["metadata"]["name"]))
    shape = _plain(member.shape.name)
    for name in (shape, COUNT.sub("", shape)):
        if name in by_accelerator:
            return min(by_accelerator[name])
        kinds = [accelerator for accelerator in by_accelerator if accelerator.startswith(f"{name}-")]
        if kinds:
            return min(by_accelerator[kinds[0]]) if len(kinds) == 1 else None
    return None


def _plain(accelerator: str) -> str:
    """As a shape can be named: shapes are part of object names, which have neither capitals nor underscores."""
    return accelerator.lower().replace("_", "-")
