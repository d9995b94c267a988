"""Instances as decisions see them: identity, role, capabilities."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Role(StrEnum):
    """What an instance does now."""

    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


class InstanceId(NamedTuple):
    """An engine that restarts at the same address is another instance: its KV, queue and prefixes are gone."""

    address: str
    """Base URL, e.g. `http://10.0.3.7:8000`."""
    epoch: str
    """Pod UID or engine start; empty until one is known."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine's connector lets the router do."""

    local_prefill: bool = True
    """A decode-role instance may prefill a prompt itself."""
    late_decode: bool = True
    """The decode instance may be chosen after the prefill has ended (pull connectors)."""
    kv_handle: bool = False
    """A running request's KV can be handed over at any moment."""
    transfer_group: str = ""
    """Instances exchange KV only within one group."""
    replay_exact: bool = False
    """Prompt token ids plus the token ids so far continue exactly where the answer stopped."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The facts about an instance that change only with an event that says so."""

    id: InstanceId
    models: tuple[str, ...]
    """Every model name it answers to, LoRA adapters included."""
    role: Role
    pool: str = ""
    capabilities: Capabilities = Capabilities()
    kv_capacity_tokens: int = 0
    """0: unknown."""
    max_running: int = 0
    """Requests the router lets run here at once. 0: no limit of the router's."""
