"""Things of Kubernetes' own that specs hold, under Kubernetes' names."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from pointsman.api.crd.structural import PATTERN_MESSAGE
from pointsman.api.resources.base import Part, map_list, told

DnsLabel = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63),
    told(
        "must be lower-case letters, digits and dashes, with a letter or digit at both ends, like `decode-1`"
    ),
]
DnsName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        min_length=1,
        max_length=253,
    ),
    told("must be the name of an object: lower-case letters, digits, dashes and dots, like `weights-8b`"),
]
"""The name of an object."""
QualifiedName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        max_length=317,
    ),
    told("must be a label's key or a resource's name, like `nvidia.com/gpu` or `kubernetes.io/hostname`"),
]
"""A label key or a resource name, like `nvidia.com/gpu`."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]+)?$", max_length=32),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            PATTERN_MESSAGE: "must be an amount like 500m, 4 or 16Gi: a number, and behind it nothing or one of m, k, M, G,"
            " T, P, E, Ki, Mi, Gi, Ti, Pi, Ei",
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]+)?$",
            "maxLength": 32,
        }
    ),
]
"""An amount as Kubernetes writes it: `2`, `500m`, `16Gi`."""


class SecretKey(Part):
    """One value in a Secret of the same namespace."""

    name: DnsName
    """The Secret's name."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """Which of its values."""


class KeyReference(SecretKey):
    """One value in a Secret or ConfigMap of the same namespace, for an environment variable."""

    optional: bool | None = None
    """Whether the variable stays unset where there is no such value; else the container does not start."""


class FieldReference(Part):
    """A field of the pod."""

    field_path: Annotated[str, Field(max_length=253)]
    """Like `status.podIP`."""
    api_version: Annotated[str, Field(max_length=32)] | None = None
    """Of the path. Default: v1."""


class ResourceFieldReference(Part):
    """A resource of the container."""

    resource: Annotated[str, Field(max_length=253)]
    """Like `limits.memory`."""
    container_name: DnsLabel | None = None
    """Whose. Default: this container's."""
    divisor: Quantity | None = None
    """The unit of the value."""


class EnvSource(Part):
    """Where a variable's value comes from: one of the fields."""

    secret_key_ref: KeyReference | None = None
    """A value in a Secret of the same namespace."""
    config_map_key_ref: KeyReference | None = None
    """A value in a ConfigMap of the same namespace."""
    field_ref: FieldReference | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldReference | None = None
    """A resource of the container."""


class EnvVar(Part):
    """An environment variable of the engine's container."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=253)]
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The variable's value, where it is given here."""
    value_from: EnvSource | None = None
    """Where else the value comes from."""


class SecretReference(Part):
    """A Secret of the same namespace."""

    name: DnsName
    """The Secret's name."""


class ResourceRequirements(Part):
    """CPU, memory and the like of the engine's container. Accelerators are added by the pool's shape."""

    limits: Annotated[dict[str, Quantity], Field(max_length=32)] | None = None
    """The most it may use."""
    requests: Annotated[dict[str, Quantity], Field(max_length=32)] | None = None
    """What a node must have free for it. Default: the limits."""


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Part):
    """A taint of nodes that the pods may stand on all the same."""

    key: QualifiedName | None = None
    """The taint's key. Absent, with operator Exists: all."""
    operator: TolerationOperator | None = None
    """How the value is compared. Default: Equal."""
    value: LabelValue | None = None
    """The taint's value, for Equal."""
    effect: TaintEffect | None = None
    """The taint's effect. Default: all."""
    toleration_seconds: int | None = None
    """How long after a NoExecute taint appeared. Default: for ever."""


class ImagePullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=16)]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=32)]
Arguments = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=128)]
Environment = Annotated[tuple[EnvVar, ...], Field(max_length=128), map_list()]
PullSecrets = Annotated[tuple[SecretReference, ...], Field(max_length=8), map_list()]
