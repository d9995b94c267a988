"""What engines say of themselves in `/metrics` while a load runs."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pointsman.http.aio import request
from pointsman.http.errors import ExchangeError
from pointsman.http.exchange import Timeouts
from pointsman.http.pool import Pool
from pointsman.loadgen.wire import Endpoint

SCRAPE_TIMEOUTS = Timeouts(connect_s=2.0, first_byte_s=5.0, between_bytes_s=5.0, total_s=10.0)

RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs")
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs")
KV_USED_SHARE = ("vllm:kv_cache_usage_perc", "sglang:token_usage")

SPEED = "pointsman:engine_speed"

PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_HITS = "vllm:prefix_cache_hits_total"
PREEMPTIONS = "vllm:num_preemptions_total"
LATE_SUM = "pointsman:iteration_late_seconds_sum"
"""Of simulated engines: how much later than by their virtual clock iterations ended."""
LATE_COUNT = "pointsman:iteration_late_seconds_count"
COUNTERS = (PREFIX_QUERIES, PREFIX_HITS, PREEMPTIONS, LATE_SUM, LATE_COUNT)


@dataclass(slots=True)
class EngineState:
    """An engine as last seen. None: it did not say."""

    url: str
    reachable: bool = False
    running: int | None = None
    waiting: int | None = None
    kv_used_share: float | None = None
    speed: float | None = None
    """How much faster than real time a simulated engine runs."""
    counters: dict[str, float] = field(default_factory=dict)


def parse_samples(text: str) -> dict[str, float]:
    """Sum over label sets of every sample in Prometheus' text format; lines that are none are passed over."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if not line or line[0] == "#":
            continue
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0].strip()
        try:
            samples[name] = samples.get(name, 0.0) + float(value)
        except ValueError:
            continue
    return samples


class EngineWatch:
    """Scrapes engines again and again, and adds up what their counters gained, across restarts too."""

    def __init__(self, engines: Iterable[tuple[Endpoint, Pool]]) -> None:
        self._engines = tuple(engines)
        self.states = [EngineState(endpoint.url) for endpoint, _ in self._engines]
        self._gained = dict.fromkeys(COUNTERS, 0.0)
        self._said: set[str] = set()

    async def run(self, interval_s: float) -> None:
        """Until cancelled."""
        while True:
            await self.scrape()
            await asyncio.sleep(interval_s)

    async def scrape(self) -> None:
        """Once, all of them."""
        await asyncio.gather(
            *(self._scrape(engine, state) for engine, state in zip(self._engines, self.states, strict=True))
        )

    def restart_counting(self) -> None:
        """Forget what was gained so far: the warm-up has ended."""
        self._gained = dict.fromkeys(COUNTERS, 0.0)

    def gained(self, counter: str) -> float | None:
        """How much a counter grew, all engines together; None: no engine has it."""
        return self._gained[counter] if counter in self._said else None

    def ratio(self, part: str, whole: str) -> float | None:
        parts, wholes = self.gained(part), self.gained(whole)
        return parts / wholes if parts is not None and wholes else None

    async def _scrape(self, engine: tuple[Endpoint, Pool], state: EngineState) -> None:
        endpoint, pool = engine
        try:
            response = await request(
                pool,
                "GET",
                endpoint.base_path + "/metrics",
                headers=endpoint.headers,
                timeouts=SCRAPE_TIMEOUTS,
            )
        except ExchangeError:
            state.reachable = False
            return
        state.reachable = response.status == 200
        if state.reachable:
            self._take(state, parse_samples(response.body.decode("utf-8", errors="replace")))

    def _take(self, state: EngineState, samples: Mapping[str, float]) -> None:
        running, waiting = _first(samples, RUNNING), _first(samples, WAITING)
        state.running = None if running is None else int(running)
        state.waiting = None if waiting is None else int(waiting)
        state.kv_used_share = _first(samples, KV_USED_SHARE)
        state.speed = samples.get(SPEED)
        for counter in COUNTERS:
            value = samples.get(counter)
            if value is None:
                continue
            before = state.counters.get(counter)
            if before is not None:
                # A counter that fell was started anew with its engine.
                self._gained[counter] += value - before if value >= before else value
            state.counters[counter] = value
            self._said.add(counter)


def _first(samples: Mapping[str, float], names: Iterable[str]) -> float | None:
    return next((samples[name] for name in names if name in samples), None)
