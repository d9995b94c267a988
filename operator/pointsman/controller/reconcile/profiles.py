"""Which EngineProfile is meant where a spec names none."""

from collections.abc import Sequence

from pointsman.api.resources.engine import EngineType
from pointsman.api.resources.model_service import ModelServiceSpec
from pointsman.controller.objects.pools import Member
from pointsman.controller.reconcile.actions import Object


def matching_profile(spec: ModelServiceSpec, member: Member, profiles: Sequence[Object]) -> str | None:
    """The profile of this model, engine, accelerator shape and tensor parallel degree; the first by name of several.

    Never for a simulated engine: by which profile it runs is what its user chooses.
    """
    if spec.engine.type is EngineType.SIMULATED:
        return None
    source = spec.model.source
    models = {
        spec.model.name,
        source.hub.id if source is not None and source.hub is not None else spec.model.name,
    }
    matching = [
        str(profile["metadata"]["name"])
        for profile in profiles
        if profile.get("spec", {}).get("model") in models
        and profile["spec"].get("engine") == spec.engine.type.value
        and profile["spec"].get("accelerator") == member.shape.name
        and profile["spec"].get("tensorParallel") == member.pool.parallelism.tensor
    ]
    return min(matching, default=None)
