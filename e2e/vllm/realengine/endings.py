"""Real engines that the scenarios of `contract.endings` end."""

import os
from functools import partial

from contract.endings import ENDINGS, GRACE_S, Doomed
from realengine.engine import EngineSpec, RealEngine


def specs() -> list[EngineSpec]:
    """One per scenario, named after it."""
    return [
        EngineSpec(name, extra=("--shutdown-timeout", str(GRACE_S)) if ending.graceful else ())
        for name, ending in ENDINGS.items()
    ]


def doomed(engine: RealEngine) -> Doomed:
    return Doomed(engine.url, partial(os.kill, engine.process.pid), engine.signal)
