"""Where an engine finds the files of its model and adapters: paths, volumes, and what downloading needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.api.resources.model import ModelSource

MODELS = "/models"
HUB_CACHE = "/cache/huggingface"


@dataclass(frozen=True, slots=True)
class Files:
    """What the engine is told and what its pod mounts."""

    path: str
    """A folder, or an id on the hub."""
    revision: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Path by name, in the spec's order."""
    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    environment: tuple[Mapping[str, Any], ...] = ()


def files_of(pool: InstancePoolSpec) -> Files:
    """All that the pool's engines need to find."""
    sources = {"model": pool.model.source}
    sources |= {f"adapter-{i}": adapter.source for i, adapter in enumerate(pool.engine.adapters)}
    given = {name: source for name, source in sources.items() if source is not None}
    paths = {name: _path(name, source) for name, source in given.items()}
    mounted = [(name, source) for name, source in given.items() if source.hub is None]
    volumes: list[Mapping[str, Any]] = [_volume(name, source) for name, source in mounted]
    mounts: list[Mapping[str, Any]] = [
        {"name": name, "mountPath": f"{MODELS}/{name}", "readOnly": True} for name, _ in mounted
    ]
    environment: list[Mapping[str, Any]] = []
    hubs = [source.hub for source in given.values() if source.hub is not None]
    if hubs:
        volumes.append({"name": "hub-cache", "emptyDir": {}})
        mounts.append({"name": "hub-cache", "mountPath": HUB_CACHE})
        environment.append({"name": "HF_HOME", "value": HUB_CACHE})
    secrets = [hub.token_secret for hub in hubs if hub.token_secret is not None]
    if secrets:
        reference = {"name": secrets[0].name, "key": secrets[0].key}
        environment.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    model = pool.model.source
    return Files(
        path=paths.get("model", pool.model.name),
        revision=model.hub.revision if model is not None and model.hub is not None else None,
        adapters={
            adapter.name: paths[f"adapter-{i}"]
            for i, adapter in enumerate(pool.engine.adapters)
            if f"adapter-{i}" in paths
        },
        volumes=tuple(volumes),
        mounts=tuple(mounts),
        environment=tuple(environment),
    )


def _path(name: str, source: ModelSource) -> str:
    if source.hub is not None:
        return source.hub.id
    inside = (
        source.pvc.path if source.pvc is not None else source.image.path if source.image is not None else None
    )
    return f"{MODELS}/{name}/{inside}" if inside else f"{MODELS}/{name}"


def _volume(name: str, source: ModelSource) -> Mapping[str, Any]:
    if source.pvc is not None:
        claim = {"claimName": source.pvc.claim_name, "readOnly": True}
        return {"name": name, "persistentVolumeClaim": claim}
    if source.image is not None:
        image = {"reference": source.image.reference}
        if source.image.pull_policy is not None:
            image["pullPolicy"] = source.image.pull_policy.value
        return {"name": name, "image": image}
    raise ValueError(f"{name}: a source is one of hub, pvc and image")
