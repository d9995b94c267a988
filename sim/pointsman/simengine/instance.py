"""A simulated instance: the engine loop, its driver, the requests in it, what they measure."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pointsman.core.units import to_ps, to_s
from pointsman.sim.engine import (
    Engine,
    EngineOptions,
    EngineRequest,
    EngineStats,
    Iteration,
    Output,
    Scheduling,
)
from pointsman.simengine.clock import VirtualClock
from pointsman.simengine.driver import Driver, Lateness
from pointsman.simengine.errors import ApiError
from pointsman.simengine.jobs import Job, Run
from pointsman.simengine.measures import Measures
from pointsman.simengine.options import ServerOptions


class SimulatedInstance:
    """Made on the running event loop."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.engine = Engine(
            options.profile,
            EngineOptions(
                chunk_tokens=options.chunk_tokens,
                scheduling=Scheduling.PRIORITY if options.priority_scheduling else Scheduling.FCFS,
                prefix_caching=options.prefix_caching,
                kv_capacity_tokens=options.kv_capacity_tokens,
                max_sequences=options.max_sequences,
                max_context_tokens=options.longest_context(),
                lease_ps=to_ps(options.transfer.lease_s),
            ),
        )
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop, options.speed)
        self.driver = Driver(self.engine, self.clock, self._on_outputs)
        self.measures = Measures(options.longest_context())
        self.started_s = self.wall_s()
        self.sleep_level = 0
        self.asleep = False
        self.draining = False
        """It finishes what runs and takes nothing new."""
        self._hung = False
        self.pulling = 0
        self.after_iteration: list[Callable[[], None]] = []
        self._rate_since = (0.0, 0)
        self._runs: dict[str, Run] = {}
        self.idle = asyncio.Event()
        """Nothing runs and nothing waits."""
        self.idle.set()

    @staticmethod
    def wall_s() -> float:
        """Seconds since 1970, for what clients see."""
        return time.time()

    @property
    def lateness(self) -> Lateness:
        return self.driver.lateness

    def stats(self) -> EngineStats:
        return self.engine.stats()

    def generated_per_s(self) -> float:
        """Tokens a virtual second, since the last call."""
        now_s, tokens = to_s(self.clock.now_ps()), self.measures.generation_tokens
        last_s, last_tokens = self._rate_since
        self._rate_since = (now_s, tokens)
        return (tokens - last_tokens) / (now_s - last_s) if now_s > last_s else 0.0

    def lora_activity(self) -> tuple[Sequence[str], Sequence[str]]:
        """Adapters of running and of waiting requests."""
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        for run in self._runs.values():
            if run.lora is not None:
                (running if run.answer.taken else waiting)[run.lora] += 1
        return sorted(running), sorted(waiting)

    def run_of(self, request: EngineRequest) -> Run | None:
        """What an engine request is a part of, while it is."""
        return self._runs.get(request.request_id)

    def start(self, job: Job) -> None:
        """Hand a job's requests to the engine."""
        self.idle.clear()
        for run in job.runs:
            self._runs[run.request.request_id] = run
            self.driver.submit(run.request)

    def abort(self, job: Job, failure: ApiError | None = None) -> None:
        """Take a job's unfinished requests out of the engine, their blocks freed at once."""
        for run in job.runs:
            if self._forget(run):
                self.driver.abort(run.request)
                if failure is not None:  # vLLM counts no requests whose clients have left
                    self.measures.request_finished(
                        run.request, "error", job.max_tokens, job.choices_per_prompt
                    )
        if failure is not None and not job.finished:
            job.fail(failure)

    def abort_named(self, names: Sequence[str]) -> None:
        """End the answers of these requests where they are; names are those that clients know, numbered by choice."""
        wanted = set(names)
        for job in {run.job for run in self._runs.values() if run.name in wanted}:
            self.abort(job)
            job.cut_short("abort")

    def _forget(self, run: Run) -> bool:
        known = self._runs.pop(run.request.request_id, None) is not None
        if not self._runs:
            self.idle.set()
        return known

    def abort_all(self) -> None:
        """End every running answer as it is, its finish reason `abort`."""
        for job in {run.job for run in self._runs.values()}:
            self.abort(job)
            job.cut_short("abort")

    def fail_all(self, failure: ApiError) -> None:
        """End every running answer with an error."""
        for job in {run.job for run in self._runs.values()}:
            self.abort(job, failure)

    def sleep(self, level: int) -> None:
        """Stop running requests; new ones wait."""
        self.sleep_level, self.asleep = level, True
        self._run_or_pause()

    def wake_up(self) -> None:
        self.sleep_level, self.asleep = 0, False
        self._run_or_pause()

    def set_faults(self, *, hang: bool, slow_factor: float) -> None:
        self._hung = hang
        self.driver.slow_factor = slow_factor
        self._run_or_pause()

    def _run_or_pause(self) -> None:
        if self.asleep or self._hung:
            self.driver.pause()
        else:
            self.driver.resume()

    def status(self) -> dict[str, Any]:
        """For people and for the load client: the virtual clock and what runs."""
        stats = self.stats()
        return {
            "model": self.options.model,
            "profile": self.options.profile.name,
            "speed": self.options.speed,
            "virtual_now_s": to_s(self.clock.now_ps()),
            "lag_s": self.lateness.now_s,
            "lag_worst_s": self.lateness.worst_s,
            "lag_share": self.measures.lag_share,
            "late_s_total": self.measures.late_finishes_s,
            "request_s_total": self.measures.e2e.sum,
            "running": stats.running,
            "waiting": stats.waiting + self.driver.arriving,
            "kv_used_blocks": stats.used_blocks,
            "kv_total_blocks": stats.total_blocks,
            "block_size": self.options.profile.block_size,
            "preemptions": stats.counters.preemptions,
            "prefix_queries_tokens": stats.counters.prefix_queries,
            "prefix_hits_tokens": stats.counters.prefix_hits,
            "pulled_tokens": stats.counters.pulled_tokens,
            "generation_tokens": self.measures.generation_tokens,
        }

    def _on_outputs(self, iteration: Iteration, outputs: Sequence[Output]) -> None:
        now_ps = iteration.end_ps
        gaps: Counter[int] = Counter()
        generated = 0
        for output in outputs:
            run = self._runs.get(output.request.request_id)
            if run is None or not output.new_tokens:
                continue
            generated += output.new_tokens
            if output.request.generated_tokens == output.new_tokens:
                self._first_token(run)
            else:
                gaps[now_ps - run.last_token_ps] += 1
            run.last_token_ps = now_ps
            if output.finished:
                self._finished(run)
            run.job.progress(run, output)
        self.measures.generation_tokens += generated
        self.measures.iteration(iteration.prefill_tokens + generated, gaps.items())
        for done in self.after_iteration:
            done()

    def _first_token(self, run: Run) -> None:
        request = run.request
        self.measures.first_token(request, run.pull_tokens)
        if run.on_first_token is not None:
            run.on_first_token()
        usage = run.job.usage
        if usage.cached_tokens is not None and run is run.job.runs[0]:
            block = self.options.profile.block_size
            usage.cached_tokens = request.cached_tokens
            usage.created_cache_tokens = max(
                request.prompt_tokens // block * block - request.cached_tokens, 0
            )

    def _finished(self, run: Run) -> None:
        self._forget(run)
        job = run.job
        self.measures.request_finished(
            run.request, run.answer.ending.reason, job.max_tokens, job.choices_per_prompt
        )
        self.measures.late_finishes_s += max(self.lateness.now_s, 0.0)
