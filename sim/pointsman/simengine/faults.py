"""Faults on demand: what breaks, how often, from a seed.

`POST /admin/faults` sets the fields it names, `DELETE` clears them all.
"""

import os
import random
import signal
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from pointsman.simengine.errors import internal_error

KILLED = 128 + signal.SIGKILL
"""Exit code by which shells and container runtimes tell of a SIGKILL."""


class FaultSettings(BaseModel):
    """What is to go wrong. Nothing, by default."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 0
    die_after_s: Annotated[float, Field(ge=0)] | None = None
    """Kill the process (as SIGKILL does) so many real seconds from now."""
    hang: bool = False
    """Iterations stop; connections stay open, `/health` still answers."""
    slow_factor: Annotated[float, Field(gt=0)] = 1.0
    """Iterations take so many times as long."""
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of generations answered 500."""
    drop_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of streams whose connection is cut."""
    drop_after_tokens: Annotated[int, Field(ge=1)] = 1
    """After how many tokens."""


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self.settings = FaultSettings()
        self._random = random.Random(0)

    def set(self, settings: FaultSettings) -> None:
        self.settings = settings
        self._random = random.Random(settings.seed)

    def fail_some(self) -> None:
        """Raises ApiError 500 for the share of generations that is to fail."""
        if self.settings.error_rate and self._random.random() < self.settings.error_rate:
            raise internal_error("Internal server error (a fault that was asked for)")

    def drop_after(self) -> int | None:
        """After how many tokens the next stream is cut. None: it is not."""
        if self.settings.drop_rate and self._random.random() < self.settings.drop_rate:
            return self.settings.drop_after_tokens
        return None


def die() -> NoReturn:
    """End this process at once, with nothing closed or flushed by it."""
    os.kill(os.getpid(), signal.SIGKILL)
    # The first process of a container takes no SIGKILL from inside (pid_namespaces(7)): it lives to get here.
    os._exit(KILLED)
