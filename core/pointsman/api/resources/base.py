"""What all custom resources are made of: parts with camelCase names on the wire, metadata, rules for the API server."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pointsman.api.crd.structural import PATTERN_MESSAGE


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence in CEL that the API server checks on every write: for what plain bounds cannot say."""

    cel: str
    message: str
    field: str = ""
    """Path from the rule's place to the field to blame, like `.replicas`; empty: the place itself."""
    reason: str = ""
    """`FieldValueRequired`, `FieldValueForbidden`, `FieldValueDuplicate`; empty: `FieldValueInvalid`."""

    def to_schema(self) -> dict[str, str]:
        schema = {"rule": self.cel, "message": self.message}
        if self.field:
            schema["fieldPath"] = self.field
        if self.reason:
            schema["reason"] = self.reason
        return schema


class Part(BaseModel):
    """A piece of a resource. Descriptions become what `kubectl explain` shows.

    Fields it does not know are ignored: the definitions in the cluster may be newer than who reads, and for people who
    write, the API server refuses unknown fields. What the API server checks by rules is not checked again here.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            resolved = handler.resolve_ref_schema(schema)
            resolved["x-kubernetes-validations"] = [rule.to_schema() for rule in cls.rules]
        return schema

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Empty lists and parts mean the same as absent ones, and are stored as such."""
        return {name: value for name, value in handler(self).items() if value not in (None, [], (), {})}

    def to_wire(self) -> dict[str, Any]:
        """As the API server takes it: camelCase names, absent and empty fields left out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_wire(cls, data: Any) -> Self:
        """Raises pydantic.ValidationError."""
        return cls.model_validate(data)


def map_list(key: str = "name") -> Any:
    """For a list whose items are told apart by `key`: changes of one item are seen as such."""
    return Field(
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]},
    )


def told(message: str) -> Any:
    """Beside a pattern: what the API server says of a value that does not match, in place of the pattern."""
    return Field(json_schema_extra={PATTERN_MESSAGE: message})


def free_form() -> Any:
    """For an object that the API server stores as it is."""
    return Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})


class Resource(Part):
    """A whole object: metadata, spec and status."""

    def to_wire(self) -> dict[str, Any]:
        """As `Part.to_wire`; a status that says nothing is left out."""
        wire = super().to_wire()
        if "status" not in self.model_dump(include={"status"}, exclude_defaults=True):
            wire.pop("status", None)
        return wire


class OwnerReference(Part):
    """Who an object belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Part):
    """What Kubernetes itself knows of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value}


Generation = Annotated[int, Field(ge=0)]
