"""Open-loop load: requests leave when the workload says so, whether or not earlier ones were answered."""

import asyncio
import secrets
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pointsman.http.exchange import Timeouts
from pointsman.http.pool import Pool
from pointsman.loadgen.answer import Answer, AnswerReceiver
from pointsman.loadgen.prompts import PromptWriter
from pointsman.loadgen.wire import Dialect, Endpoint
from pointsman.sim.objective import Objective
from pointsman.sim.report import RequestResult
from pointsman.sim.workload.request import TraceRequest, Workload

Ended = Callable[[int, str, TraceRequest, Answer, RequestResult], None]
"""Index in the order of arrival, request id, and what became of it."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    speed: float = 1.0
    """Arrivals are compressed so many times, and measured times multiplied back."""
    max_in_flight: int = 4096
    """Requests that would exceed it wait in the client and count as sent late."""
    timeout_s: float = 600.0
    """From sending to the last byte, wall time."""


class LoadClient:
    """Plays one workload against one endpoint."""

    def __init__(
        self,
        pool: Pool,
        endpoint: Endpoint,
        dialect: Dialect,
        objective: Objective,
        options: LoadOptions,
        on_ended: Ended,
    ) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._dialect = dialect
        self._objective = objective
        self._options = options
        self._on_ended = on_ended
        self._run_id = secrets.token_hex(6)
        self._prompts = PromptWriter(self._run_id)
        self._under_way: set[AnswerReceiver] = set()
        self._fewer = asyncio.Event()
        """One of those under way has ended."""
        self._stop = asyncio.Event()
        self._start_s = 0.0
        self._lateness_s = array("d")
        self._wall_s = 0.0
        self._timeouts = Timeouts(
            connect_s=min(30.0, options.timeout_s),
            first_byte_s=None,
            between_bytes_s=None,
            total_s=options.timeout_s,
        )

    async def run(self, workload: Workload) -> None:
        """Returns when every request has ended, or has been stopped."""
        self._start_s = time.perf_counter()
        for index, request in enumerate(workload):
            head, body, request_id = self._prepare(index, request)
            due_s = self._start_s + request.arrival_s / self._options.speed
            await self._wait_until(due_s)
            await self._wait_for_fewer(self._options.max_in_flight)
            if self.stopped:
                break
            self._lateness_s.append(max(0.0, time.perf_counter() - due_s))
            self._send(head, body, partial(self._ended, index, request_id, request))
        await self._wait_for_fewer(1)
        self._wall_s = time.perf_counter() - self._start_s

    def stop(self) -> None:
        """Send nothing more and abort what is under way."""
        self._stop.set()
        for receiver in tuple(self._under_way):
            receiver.stop()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def sent(self) -> int:
        return len(self._lateness_s)

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    @property
    def now_s(self) -> float:
        """On the workload's clock."""
        return self._since_start(time.perf_counter())

    @property
    def wall_s(self) -> float:
        return self._wall_s

    @property
    def p99_lateness_s(self) -> float | None:
        """How late requests were sent, wall time."""
        return float(np.quantile(self._lateness_s, 0.99)) if self._lateness_s else None

    async def _wait_until(self, due_s: float) -> None:
        left_s = due_s - time.perf_counter()
        if left_s <= 0:
            await asyncio.sleep(0)  # late or in a burst: let answers in between
            return
        try:
            async with asyncio.timeout(left_s):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _wait_for_fewer(self, limit: int) -> None:
        while len(self._under_way) >= limit:
            self._fewer.clear()
            await self._fewer.wait()

    def _prepare(self, index: int, request: TraceRequest) -> tuple[bytes, bytes, str]:
        """Head, body and id, made before the request is due."""
        request_id = f"replay-{self._run_id}-{index}"
        body = self._dialect.body(self._prompts.write(index, request), request.output_tokens)
        headers = self._dialect.headers(request_id, request)
        return self._endpoint.head("POST", self._dialect.target, headers, len(body)), body, request_id

    def _send(self, head: bytes, body: bytes, on_ended: Callable[[Answer], None]) -> None:
        def ended(answer: Answer) -> None:
            self._under_way.discard(receiver)
            self._fewer.set()
            on_ended(answer)

        receiver = AnswerReceiver(time.perf_counter, ended)
        self._under_way.add(receiver)
        receiver.exchange = self._pool.send(head, body, receiver, timeouts=self._timeouts)

    def _ended(self, index: int, request_id: str, request: TraceRequest, answer: Answer) -> None:
        self._on_ended(index, request_id, request, answer, self._result(request, answer))

    def _result(self, request: TraceRequest, answer: Answer) -> RequestResult:
        speed = self._options.speed
        first_s, last_s = answer.first_token_s, answer.last_token_s
        return RequestResult(
            arrival_s=self._since_start(answer.sent_s),
            end_s=self._since_start(answer.ended_s),
            outcome=answer.outcome,
            slo=self._objective.of(request.prompt_tokens),
            first_token_s=None if first_s is None else self._since_start(first_s),
            last_token_s=None if last_s is None else self._since_start(last_s),
            output_tokens=answer.output_tokens,
            gaps_s=[gap_s * speed for gap_s in answer.gaps_s],
        )

    def _since_start(self, clock_s: float) -> float:
        return (clock_s - self._start_s) * self._options.speed
