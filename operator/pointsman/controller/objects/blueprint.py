"""What the instances of an InstancePool are made from, without what tells them apart: one value with one hash.

Kept whole in a ControllerRevision, so that an instance of an older revision is repaired from what it was made from, and so
that another version of this operator, which builds pods otherwise, rolls them as any change is rolled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources.engine import EngineType
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.canonical import short_hash
from pointsman.controller.objects.drain import split_grace
from pointsman.controller.objects.engines.launch import Start
from pointsman.controller.objects.model_files import files_of
from pointsman.controller.objects.pod import Image, engine_pod, launch_of

PROFILE_FOLDER = "/etc/pointsman"
PROFILE_FILE = "profile.json"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Of instances of one node (a pod template), or of several."""

    leader: Mapping[str, Any]
    worker: Mapping[str, Any] | None = None
    nodes: int = 1
    profile: str | None = None
    """Text of the engine profile that a simulated engine runs by."""

    def data(self) -> dict[str, Any]:
        """As it is kept."""
        kept: dict[str, Any] = {"leader": self.leader, "nodes": self.nodes}
        if self.worker is not None:
            kept["worker"] = self.worker
        if self.profile is not None:
            kept["profile"] = self.profile
        return kept

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Blueprint":
        """What `data` gave."""
        return cls(data["leader"], data.get("worker"), data.get("nodes", 1), data.get("profile"))

    @property
    def hash(self) -> str:
        return short_hash(self.data(), 8)


def profile_map_name(pool: str, profile: str) -> str:
    """Another text has another name: instances of two revisions each find their own."""
    return f"{pool}-profile-{short_hash(profile, 6)}"


def blueprint(pool: str, spec: InstancePoolSpec, own: Image, profile: EngineProfile | None) -> Blueprint:
    """What the spec asks for; engines that name no image run the operator's `own`. Raises TemplateError."""
    profile_text = None
    extra: list[dict[str, Any]] = []
    if spec.engine.type is EngineType.SIMULATED and profile is not None:
        profile_text = profile.to_file().model_dump_json()
        source = {"configMap": {"name": profile_map_name(pool, profile_text)}}
        extra = [{"name": "profile", "mountPath": PROFILE_FOLDER, **source}]
    start = Start(
        pool=spec,
        files=files_of(spec),
        grace=split_grace(spec.engine.grace_period_seconds),
        profile_file=f"{PROFILE_FOLDER}/{PROFILE_FILE}" if extra else None,
    )
    launch = launch_of(start)
    secrets = tuple(secret.name for secret in spec.engine.image_pull_secrets)
    if not spec.engine.image and not secrets:
        secrets = own.pull_secrets
    image = Image(spec.engine.image or own.name, secrets)
    leader = engine_pod(pool, start, launch, image, extra)
    worker = None
    if spec.parallelism.nodes > 1:
        worker = engine_pod(pool, start, launch, image, extra, worker=True)
    return Blueprint(leader, worker, spec.parallelism.nodes, profile_text)
