"""Conditions: what the controller says of a resource, for machines (type, status, reason) and people (message)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pointsman.api.resources.base import Generation, Part, map_list


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """Of ModelServices and InstancePools."""

    READY = "Ready"
    """Requests are served: every pool has what it needs and a router knows the model."""
    POOLS_READY = "PoolsReady"
    """Every pool has as many ready instances as it should."""
    ROUTER_READY = "RouterReady"
    """A router reports this generation as loaded."""
    PROFILE_RESOLVED = "ProfileResolved"
    """Engine profiles that the spec names exist and fit."""
    SLO_ATTAINED = "SLOAttained"
    """Live requests meet their limits."""
    SCALING_LIMITED = "ScalingLimited"
    """A bound or the budget keeps a pool from the size it should have."""
    DEGRADED = "Degraded"
    """Something is wrong that does not stop service: a rollout that was halted, an instance that keeps failing."""


class Condition(Part):
    """One aspect of the resource's state."""

    type: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=316)]
    """Which aspect."""
    status: ConditionStatus
    """True, False, or Unknown where it cannot be told."""
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    """Why, as one word for machines."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, and what to do, for people."""
    last_transition_time: datetime
    """When the status last became another one."""
    observed_generation: Generation | None = None
    """The generation of the spec that this is about."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), map_list("type")]
