"""What a simulated cluster is made of and how its routers decide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pointsman.core.decide import Rules
from pointsman.sim.engine import EngineOptions
from pointsman.sim.objective import Objective
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.lives import Life

MODEL = "simulated"
"""The name under which all instances serve: one simulation, one model."""


class Happening(StrEnum):
    """What can befall an instance."""

    LOST = "lost"
    """It dies with all that runs there; routers notice at once."""
    DRAINED = "drained"
    """It takes no more, ends what it runs, and is gone then."""
    STARTED = "started"
    """It begins to start, a new one or one that was lost, and serves with an empty cache after its start-up."""


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """One instance, named `POOL/NUMBER`, is lost, drained or started."""

    at_s: float
    instance: str
    happening: Happening
    startup_s: float = 0.0
    """From the start until it serves; it is paid for from the start on."""


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Everything but the workload."""

    pools: Sequence[Pool]
    rules: Rules
    objective: Objective
    engine: EngineOptions = field(default_factory=EngineOptions)
    seed: int = 0
    routers: int = 1
    """Replicas; requests come to them in turn."""
    view_delay_s: float = 0.0
    """After which a replica sees what another did. What it did itself it sees at once."""
    report_progress: bool = True
    """Whether routers hear once a second how far each answer is. Needed by policies that look at context tokens."""
    attempts: int = 3
    """How often a request is tried before it fails; only before its first token, as in the router."""
    changes: Sequence[InstanceChange] = ()
    explain: frozenset[int] = frozenset()
    """Requests, by their place in the order of arrival from 0, whose decisions are kept in words."""
    prefill_answers: bool = False
    """Whether the first token comes from the prefill instance and the decode instance goes on with the second (Splitwise,
    DistServe, SGLang). Else the decode instance computes it again from the KV that it pulled (NIXL in vLLM)."""
    on_completed: Callable[[Life, int], None] | None = None
    """Hears of each request that completed, and when in picoseconds, warm-up included."""
    stepwise: bool = False
    """Step through every iteration instead of leaping: slow, and the same result."""
