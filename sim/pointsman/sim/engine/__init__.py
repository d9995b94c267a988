"""The engine loop: what a continuous-batching engine does in every iteration, without a GPU and without a clock."""

from pointsman.sim.engine.engine import Engine, Iteration, Output, RequestTooLongError
from pointsman.sim.engine.options import EngineCounters, EngineOptions, EngineStats, Scheduling
from pointsman.sim.engine.request import EngineRequest, KvPull

__all__ = [
    "Engine",
    "EngineCounters",
    "EngineOptions",
    "EngineRequest",
    "EngineStats",
    "Iteration",
    "KvPull",
    "Output",
    "RequestTooLongError",
    "Scheduling",
]
