"""Virtual time for a live engine: `speed` virtual seconds pass in one second of the event loop's clock."""

import asyncio
from dataclasses import dataclass, field

from pointsman.core.units import PS_PER_S, to_ps

_TIMER_STEP_S = 0.001
"""The event loop's timers count milliseconds."""


@dataclass(slots=True)
class VirtualClock:
    """Starts at 0 when made."""

    loop: asyncio.AbstractEventLoop
    speed: float
    _start_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._start_s = self.loop.time()

    def now_ps(self) -> int:
        return to_ps((self.loop.time() - self._start_s) * self.speed)

    def real_s(self, virtual_ps: int) -> float:
        """How long a span of virtual time takes."""
        return virtual_ps / PS_PER_S / self.speed

    def wait_s(self, until_ps: int) -> float:
        """Real seconds to sleep until a virtual time, on the timers' grid; 0 or less: it is due. What is due within
        half a step counts as due, so that ends are as often early as late.
        """
        return self.real_s(until_ps - self.now_ps()) - _TIMER_STEP_S / 2
