"""The CustomResourceDefinitions of Pointsman, as objects that can be applied."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel

from pointsman.api.crd.structural import Schema, structural
from pointsman.api.profile import load_profile_file, shipped_profiles
from pointsman.api.resources.base import Resource
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.api.resources.instance_pool import InstancePool
from pointsman.api.resources.model_service import ModelService
from pointsman.api.resources.names import GROUP, VERSION

CATEGORY = "pointsman"
"""`kubectl get pointsman` lists all of them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One that `kubectl get` prints."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Only with `-o wide`."""
    description: str = ""

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            wire["description"] = self.description
        if self.wide:
            wire["priority"] = 1
        return wire


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CustomResourceDefinition says beside its schema."""

    model: type[Resource]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scope: str = "Namespaced"
    scale: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.model.__name__

    @property
    def name(self) -> str:
        return f"{self.plural}.{GROUP}"


def _condition(name: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{part}'


_AGE = Column("Age", ".metadata.creationTimestamp", "date")

DEFINITIONS = (
    Definition(
        ModelService,
        "modelservices",
        "msvc",
        (
            Column("Model", ".spec.model.name"),
            Column("Engine", ".spec.engine.type"),
            Column(
                "Instances",
                ".status.ready",
                description="Instances that serve, of those that there should be",
            ),
            Column("Ready", _condition("Ready", "status")),
            Column("SLO", ".status.sloAttainment", description="Share of requests within their limits"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            Column("Router", _condition("RouterReady", "status"), wide=True),
            Column("Degraded", _condition("Degraded", "status"), wide=True),
        ),
    ),
    Definition(
        InstancePool,
        "instancepools",
        "ipool",
        (
            Column("Service", ".spec.modelService"),
            Column("Role", ".spec.role"),
            Column("Accelerator", ".spec.accelerator.name"),
            Column("Desired", ".spec.replicas", "integer"),
            Column("Current", ".status.replicas", "integer"),
            Column("Ready", ".status.readyReplicas", "integer"),
            Column("Updated", ".status.updatedReplicas", "integer"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
            Column("Selector", ".status.selector", wide=True),
        ),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Definition(
        EngineProfile,
        "engineprofiles",
        "eprof",
        (
            Column("Model", ".spec.model"),
            Column("Engine", ".spec.engine"),
            Column("Accelerator", ".spec.accelerator"),
            Column("TP", ".spec.tensorParallel", "integer", description="Tensor parallel degree"),
            Column(
                "KV tokens", ".spec.kvCapacityTokens", "integer", description="How many tokens' KV it holds"
            ),
            _AGE,
            Column("Source", ".spec.provenance.source", wide=True),
        ),
        scope="Cluster",
    ),
)


def definitions() -> Iterator[dict[str, Any]]:
    """Every CustomResourceDefinition."""
    yield from map(custom_resource_definition, DEFINITIONS)


def shipped_engine_profiles() -> Iterator[dict[str, Any]]:
    """The profiles that come with Pointsman, as EngineProfiles. Raises ProfileError."""
    for name in shipped_profiles():
        yield EngineProfile.from_file(load_profile_file(name)).to_wire()


def custom_resource_definition(definition: Definition) -> dict[str, Any]:
    """Raises NotStructuralError."""
    subresources: dict[str, Any] = {"status": {}}
    if definition.scale:
        subresources["scale"] = definition.scale
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(definition.model)},
        "additionalPrinterColumns": [column.to_wire() for column in definition.columns],
        "subresources": subresources,
    }
    kind = definition.kind
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": definition.plural,
                "singular": kind.lower(),
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "scope": definition.scope,
            "versions": [version],
        },
    }


def to_yaml(objects: Iterator[dict[str, Any]]) -> str:
    """Documents in YAML; long sentences stay on one line, so that a change of one shows as one."""
    return yaml.safe_dump_all(
        objects, sort_keys=False, width=1_000_000, allow_unicode=True, explicit_start=True
    )


def _schema(model: type[Resource]) -> Schema:
    """Of the whole object: what Kubernetes itself knows of it, spec and status."""
    schema: Schema = {
        "description": (model.__doc__ or "").strip(),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": model.__name__},
            "metadata": {"type": "object"},
            "spec": structural(_part(model, "spec")),
            "status": structural(_part(model, "status"), defaults=False),
        },
    }
    if model.rules:
        schema["x-kubernetes-validations"] = [rule.to_schema() for rule in model.rules]
    return schema


def _part(model: type[Resource], name: str) -> type[BaseModel]:
    annotation = model.model_fields[name].annotation
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise TypeError(f"{model.__name__}.{name} is no model")
    return annotation
