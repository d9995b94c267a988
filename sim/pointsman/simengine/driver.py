"""Runs the engine loop against the virtual clock.

Iterations follow each other in virtual time without gaps, however late the host is: when a host is too slow, iterations
end late, but each still begins where the last one ended, and requests join at the virtual time at which they
arrived. So the virtual timeline stays exact and lateness is a number of its own, never drift.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pointsman.core.units import to_s
from pointsman.sim.engine import Engine, EngineRequest, Iteration, Output
from pointsman.simengine.clock import VirtualClock
from pointsman.simengine.histogram import Histogram

_ITERATIONS_AT_ONCE = 4
"""Late iterations to catch up with before connections get their turn."""
_LATE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(slots=True)
class Lateness:
    """How far the host is behind the virtual clock, in virtual seconds."""

    now_s: float = 0.0
    worst_s: float = 0.0
    late: Histogram = field(default_factory=lambda: Histogram(_LATE_BUCKETS))
    """Per iteration."""

    def record(self, late_s: float) -> None:
        self.now_s = max(late_s, 0.0)
        self.worst_s = max(self.worst_s, self.now_s)
        self.late.observe(self.now_s)


class Driver:
    """Owns the engine; everything runs on one event loop. `on_outputs` gets each iteration that ended."""

    def __init__(
        self,
        engine: Engine,
        clock: VirtualClock,
        on_outputs: Callable[[Iteration, Sequence[Output]], None],
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.lateness = Lateness()
        self.slow_factor = 1.0
        self._on_outputs = on_outputs
        self._arrivals: deque[EngineRequest] = deque()
        self._changed = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._at_ps = 0

    def submit(self, request: EngineRequest) -> None:
        """Let a request join now, in virtual time."""
        request.arrived_ps = self.clock.now_ps()
        self._arrivals.append(request)
        self._changed.set()

    def abort(self, request: EngineRequest) -> None:
        """Remove a request and free its blocks, wherever it is."""
        if request in self._arrivals:
            self._arrivals.remove(request)
        else:
            self.engine.abort(request.request_id)
            self._changed.set()

    def release_kv(self, request_id: str) -> bool:
        released = self.engine.release_kv(request_id)
        self._changed.set()
        return released

    def renew_kv(self, request_id: str) -> bool:
        return self.engine.renew_kv(request_id, max(self._at_ps, self.clock.now_ps()))

    def pause(self) -> None:
        """Stop after the running iteration: a sleeping or a hung engine."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    @property
    def arriving(self) -> int:
        """Requests that have not joined the engine yet."""
        return len(self._arrivals)

    async def run(self) -> None:
        """Until cancelled."""
        behind = 0
        while True:
            if not self._running.is_set():
                await self._running.wait()
                self._at_ps = max(self._at_ps, self.clock.now_ps())
            self._join()
            iteration = self.engine.begin(self._at_ps)
            if iteration is None:
                await self._idle()
                continue
            if self.slow_factor != 1.0:
                iteration.end_ps = self._at_ps + round((iteration.end_ps - self._at_ps) * self.slow_factor)
            wait_s = self.clock.wait_s(iteration.end_ps)
            if wait_s > 0:
                behind = 0
                await asyncio.sleep(wait_s)
            elif (behind := behind + 1) % _ITERATIONS_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._end(iteration)

    def _join(self) -> None:
        """Requests join the engine in the first iteration that begins after they arrived."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].arrived_ps <= self._at_ps:
            request = arrivals.popleft()
            self.engine.add(request, request.arrived_ps)

    def _end(self, iteration: Iteration) -> None:
        outputs = self.engine.end(iteration)
        self._at_ps = iteration.end_ps
        self.lateness.record(to_s(self.clock.now_ps() - self._at_ps))
        self._on_outputs(iteration, outputs)

    async def _idle(self) -> None:
        """Wait for a request, or for what the engine waits for, then go on at that virtual time."""
        wake_ps = self.engine.wake_ps()
        if self._arrivals:
            first_ps = self._arrivals[0].arrived_ps
            self._at_ps = max(self._at_ps, first_ps if wake_ps is None else min(first_ps, wake_ps))
            return
        self._changed.clear()
        self.lateness.now_s = 0.0
        wait_s = None if wake_ps is None else max(self.clock.wait_s(wake_ps), 0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait_s)
        if wake_ps is not None and self.clock.wait_s(wake_ps) <= 0:
            self._at_ps = max(self._at_ps, wake_ps)
