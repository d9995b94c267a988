"""A whole replay: play the workload, watch the engines, report."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import orjson

from pointsman.http.aio import request as http_request
from pointsman.http.errors import ExchangeError
from pointsman.http.pool import Pool
from pointsman.http.sweeper import Sweeper
from pointsman.loadgen.answer import Answer, error_message
from pointsman.loadgen.client import LoadClient, LoadOptions
from pointsman.loadgen.engines import (
    LATE_COUNT,
    LATE_SUM,
    PREEMPTIONS,
    PREFIX_HITS,
    PREFIX_QUERIES,
    EngineWatch,
)
from pointsman.loadgen.records import RecordFile
from pointsman.loadgen.tally import Tally
from pointsman.loadgen.wire import Dialect, Endpoint
from pointsman.sim.objective import Objective
from pointsman.sim.report import ClusterFigures, Measurements, Report, RequestResult, RunCourse, RunFacts
from pointsman.sim.workload.request import TraceRequest, Workload, measure_extent

SCRAPE_INTERVAL_S = 2.0
MOST_ENGINE_LAG = 0.05
MOST_CLIENT_LAG_S = 0.025
IDLE_S = 30.0


class EndpointError(Exception):
    """The endpoint cannot be loaded: says what it answered and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded."""

    endpoint: Endpoint
    dialect: Dialect
    engines: tuple[Endpoint, ...] = ()
    """Whose metrics are read."""
    instances: int | None = None
    """How many instances stand behind the endpoint, where known."""
    ssl_context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played, and how it is judged."""

    workload: Workload
    facts: RunFacts
    objective: Objective
    options: LoadOptions
    records: Path | None = None


class Replay:
    """One run. Made in a running event loop; `stop` ends it early, and then `run` still returns a report."""

    def __init__(
        self, target: Target, plan: Plan, on_result: Callable[[RequestResult], None] | None = None
    ) -> None:
        self._target = target
        self._on_result = on_result
        self._plan = plan
        self.requests = measure_extent(plan.workload).requests
        self.measurements = Measurements(self.requests)
        self._tally = Tally()
        self._sweeper = Sweeper()
        self._records: RecordFile | None = None
        self._pools = [self._pool(endpoint) for endpoint in (target.endpoint, *target.engines)]
        self.watch = EngineWatch(zip(target.engines, self._pools[1:], strict=True))
        self.client = LoadClient(
            self._pools[0], target.endpoint, target.dialect, plan.objective, plan.options, self._ended
        )

    async def run(self) -> Report:
        """Raises OSError where records cannot be written."""
        records: AbstractContextManager[RecordFile | None] = (
            RecordFile(self._plan.records) if self._plan.records else nullcontext()
        )
        with records as self._records:
            try:
                await self.watch.scrape()
                watching = asyncio.create_task(self.watch.run(SCRAPE_INTERVAL_S))
                try:
                    await self.client.run(self._plan.workload)
                finally:
                    watching.cancel()
                await self.watch.scrape()
            finally:
                for pool in self._pools:
                    pool.close()
                self._sweeper.close()
        return self._report()

    def stop(self) -> None:
        self.client.stop()

    def _pool(self, endpoint: Endpoint) -> Pool:
        return Pool(endpoint.origin, self._sweeper, ssl_context=self._target.ssl_context, idle_s=IDLE_S)

    def _ended(
        self, index: int, request_id: str, request: TraceRequest, answer: Answer, result: RequestResult
    ) -> None:
        if index == self.measurements.warm_up:
            self.watch.restart_counting()
        self.measurements.add(index, result)
        self._tally.add(request, answer)
        if self._on_result is not None:
            self._on_result(result)
        if self._records is not None:
            self._records.write(index, request_id, request, answer, result)

    def _report(self) -> Report:
        figures = self._cluster_figures()
        course = RunCourse(
            wall_s=self.client.wall_s,
            interrupted=self.client.stopped,
            client_lag_s=self.client.p99_lateness_s,
            marks=tuple(self._marks(figures)),
            errors=dict(self._tally.errors.most_common()),
        )
        return self.measurements.report(self._plan.facts, figures, course)

    def _cluster_figures(self) -> ClusterFigures:
        preemptions = self.watch.gained(PREEMPTIONS)
        hit_rate = self.watch.ratio(PREFIX_HITS, PREFIX_QUERIES)
        figures = self.measurements.figures(whole=self.client.stopped)
        late_s, ttft_s = self.watch.ratio(LATE_SUM, LATE_COUNT), figures.mean_ttft_s
        instances = self._target.instances
        return ClusterFigures(
            prefix_hit_rate=self._tally.prefix_hit_rate if hit_rate is None else hit_rate,
            preemptions=None if preemptions is None else round(preemptions),
            instance_seconds=None if instances is None else instances * figures.duration_s,
            engine_lag=late_s / ttft_s if late_s is not None and ttft_s else None,
        )

    def _marks(self, figures: ClusterFigures) -> list[str]:
        marks = self._tally.marks()
        speed = self._plan.options.speed
        others = {state.speed for state in self.watch.states if state.speed not in (None, speed)}
        marks += [f"engines run at {other:g}x real time, not at this replay's {speed:g}x" for other in others]
        if figures.engine_lag is not None and figures.engine_lag > MOST_ENGINE_LAG:
            marks.append(
                f"engines lagged {figures.engine_lag:.1%} of TTFT behind their virtual clocks: use a lower --speed"
            )
        late_s = self.client.p99_lateness_s
        if late_s is not None and late_s > MOST_CLIENT_LAG_S:
            marks.append(
                f"this client sent up to {late_s * 1000:.0f} ms late (p99): it, or its machine, is too slow"
            )
        if self.client.stopped:
            marks.append(
                f"interrupted after {self.client.sent} of {self.requests} requests; no warm-up is taken off"
            )
        return marks


async def find_model(endpoint: Endpoint, ssl_context: ssl.SSLContext | None = None) -> str:
    """The first model the endpoint serves. Raises EndpointError."""
    sweeper = Sweeper()
    pool = Pool(endpoint.origin, sweeper, ssl_context=ssl_context)
    target = endpoint.base_path + "/v1/models"
    try:
        response = await http_request(pool, "GET", target, headers=endpoint.headers)
    except ExchangeError as error:
        raise EndpointError(f"{endpoint.url} cannot be reached: {error}") from error
    finally:
        pool.close()
        sweeper.close()
    if response.status != 200:
        said = error_message(response.body, b"")
        raise EndpointError(f"GET {endpoint.url}/v1/models answered {response.status}: {said}")
    try:
        return str(orjson.loads(response.body)["data"][0]["id"])
    except (orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise EndpointError(f"{endpoint.url}/v1/models lists no model; name one with --model") from error
