"""What an operator sets on the command line of an engine, and what an engine tells about itself."""

from dataclasses import dataclass
from enum import StrEnum

from pointsman.core.units import PS_PER_S


class Scheduling(StrEnum):
    FCFS = "fcfs"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    chunk_tokens: int = 2048
    """Token budget of an iteration (vLLM's max_num_batched_tokens)."""
    scheduling: Scheduling = Scheduling.FCFS
    prefix_caching: bool = True
    kv_capacity_tokens: int = 0
    """0: the profile's."""
    max_sequences: int = 0
    """0: the profile's."""
    max_context_tokens: int = 0
    """0: the profile's."""
    lease_ps: int = 30 * PS_PER_S
    """How long held KV waits to be pulled."""


@dataclass(slots=True)
class EngineCounters:
    """Sums since the start."""

    iterations: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of requests that got their first token."""
    generated_tokens: int = 0
    prefix_queries: int = 0
    """Tokens looked up in the prefix cache."""
    prefix_hits: int = 0
    pulled_tokens: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine now."""

    running: int
    waiting: int
    used_blocks: int
    total_blocks: int
    counters: EngineCounters
