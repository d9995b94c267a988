"""The event loop of a simulated cluster, and what becomes of every request. One workload and seed, one order of events.

Nothing depends on whether runs leap or step, so both give the same result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop
from typing import Final

from pointsman.core.decisions import Decision, Dispatch, Reject
from pointsman.core.events import Finished, PrefillEnded, Progress
from pointsman.core.instances import InstanceId
from pointsman.core.requests import RequestView
from pointsman.core.slo import Slo
from pointsman.core.units import PS_PER_S, to_ps
from pointsman.sim.engine import EngineCounters, RequestTooLongError
from pointsman.sim.predictors import Predictor
from pointsman.sim.report import Outcome
from pointsman.sim.simulation.cluster import Cluster
from pointsman.sim.simulation.lives import NEVER, Leg, Life, Part
from pointsman.sim.simulation.node import Node
from pointsman.sim.simulation.options import MODEL, SimulationOptions
from pointsman.sim.simulation.programs import ProgramCall, Programs
from pointsman.sim.simulation.recorder import Limits, Recorder
from pointsman.sim.simulation.routers import Routers
from pointsman.sim.simulation.timeline import (
    CALL_ARRIVES,
    INSTANCE_CHANGES,
    INSTANCE_WAKES,
    NO_MORE,
    PROGRESS_IS_TOLD,
    ROUTER_WAKES,
    Timeline,
)
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest, Workload

PROGRESS_PS: Final = 1_000_000_000_000
"""How often routers hear of progress, as the live router records it."""
LAST_ARRIVAL_DAYS: Final = 50
"""Picoseconds are of 64 bits, which end some days later."""
DAY_S: Final = 86_400


class ArrivalTooLateError(ValueError):
    """The workload lasts longer than a simulation can."""


@dataclass(slots=True)
class SimulationResult:
    """What a simulation leaves behind."""

    recorder: Recorder
    counters: EngineCounters
    instance_seconds: float
    retries: int
    end_ps: int
    interrupted: bool
    programs: Programs
    explanations: list[str] = field(default_factory=list)


class Simulation:
    """One run over a workload. Make a new one for another run."""

    def __init__(
        self, workload: Workload, planned: int, predictor: Predictor, options: SimulationOptions
    ) -> None:
        """`planned`: how many requests the workload holds."""
        self.recorder = Recorder(planned)
        self.options = options
        self.ended = 0
        """Requests that have ended."""
        self._objective = options.objective
        self._predictor = predictor
        self._slos: dict[int, Slo] = {}
        """By prompt length: there are fewer of them than requests."""
        self._limits: dict[int, Limits] = {}
        self._arrivals: Iterator[TraceRequest] = iter(workload)
        self._timeline = Timeline()
        self._lives: dict[str, Life] = {}
        self._programs = Programs(workload)
        self._routers = Routers(
            options.routers,
            to_ps(options.view_delay_s),
            options.rules,
            options.seed,
            self._answered,
            self._wake_router,
            frozenset(map(str, options.explain)),
        )
        self._cluster = Cluster(options, self._timeline, self._routers, self.recorder, self._lives)
        self._offered = 0
        self._retries = 0
        self._stopped = False

    def stop(self) -> None:
        """End the run after the present event; what runs then is unfinished."""
        self._stopped = True

    def run(self, on_progress: Callable[[int], None] | None = None, every: int = 2000) -> SimulationResult:
        """Until the last request has ended. `on_progress` hears how many have, about every `every` arrivals.

        Raises ArrivalTooLateError where a request arrives later than can be counted.
        """
        timeline, run_ends = self._timeline, self._cluster.run_ends
        queue = timeline.queue
        self._cluster.start()
        if self.options.report_progress:
            timeline.add(PROGRESS_PS, PROGRESS_IS_TOLD, 0)
        upcoming = next(self._arrivals, None)
        arrival_ps = _due_ps(upcoming)
        while not self._stopped:
            if upcoming is None and not self._lives and not self._programs.pending:
                break  # only timers are left
            node = run_ends.first()
            run_end_ps: int = node.run_end_ps  # compiled, what waits may wait longer than 64 bits hold
            due_ps = queue[0][0] if queue else NO_MORE
            if run_end_ps <= due_ps and run_end_ps <= arrival_ps and run_end_ps != NO_MORE:
                timeline.now_ps = run_end_ps
                timeline.turn = node.number
                self._end_run(node)
                timeline.turn = NO_MORE
            elif queue and (due_ps < arrival_ps or (due_ps == arrival_ps and queue[0][1] < CALL_ARRIVES)):
                timeline.now_ps, kind, number, version = heappop(queue)
                self._happen(kind, number, version)
            elif upcoming is not None:
                timeline.now_ps = max(timeline.now_ps, arrival_ps)
                self._arrive(upcoming, arrival_ps)
                if on_progress is not None and self._offered % every == 0:
                    on_progress(self.ended)
                upcoming = next(self._arrivals, None)
                arrival_ps = _due_ps(upcoming)
            else:
                break
        return self._result()

    # --- the queue

    def _happen(self, kind: int, number: int, version: int) -> None:
        """Whatever but the end of a run and the arrival of a request."""
        if kind == INSTANCE_WAKES:
            node = self._cluster.nodes[number]
            if node.version == version and node.run is None:
                self._cluster.begin_run(node)
        elif kind == INSTANCE_CHANGES:
            loss = self._cluster.change(number, version)
            if loss is not None:
                for life in loss.lives:
                    self._failed_attempt(life, loss.instance, f"{loss.node.name} was lost")
        elif kind == CALL_ARRIVES:
            self._offer_call(self._programs.arrived(number))
        elif kind == PROGRESS_IS_TOLD:
            self._tell_progress()
        else:
            self._routers.wake(number, self._timeline.now_ps)

    def _wake_router(self, at_ps: int, replica: int) -> None:
        self._timeline.add(at_ps, ROUTER_WAKES, replica)

    # --- requests

    def _arrive(self, request: TraceRequest, arrived_ps: int) -> None:
        if request.program is None:
            self._offer(request, arrived_ps)
            return
        for call in self._programs.begin(request, request.program, arrived_ps):
            self._offer_call(call)

    def _offer_call(self, call: ProgramCall) -> None:
        self._offer(call.request, call.at_ps, call)

    def _offer(self, request: TraceRequest, arrived_ps: int, call: ProgramCall | None = None) -> None:
        index = self._offered
        self._offered += 1
        view = RequestView(
            str(index),
            MODEL,
            request.prompt_tokens,
            arrived_ps / PS_PER_S,
            request.hash_ids,
            HASH_BLOCK_TOKENS if request.hash_ids else 0,
            request.tenant,
            request.session_id,
            request.program_id,
            request.priority,
            0,
            self._predictor.predict(request),
            self._slo_of(request.prompt_tokens),
        )
        replica = index % len(self._routers)
        life = Life(index, arrived_ps, request.prompt_tokens, request.output_tokens, view, replica)
        life.prefix = request.hash_ids
        if call is not None:
            life.call = call
            view.due_s = call.due_s
        self._lives[view.request_id] = life
        self._routers.submit(replica, view, arrived_ps)

    def _slo_of(self, prompt_tokens: int) -> Slo:
        slo = self._slos.get(prompt_tokens)
        if slo is None:
            slo = self._slos[prompt_tokens] = self._objective.of(prompt_tokens)
            self._limits[prompt_tokens] = Limits.of(slo)
        return slo

    def _answered(self, request: RequestView, answer: Decision) -> None:
        """A router has decided about a request."""
        life = self._lives[request.request_id]
        if isinstance(answer, Reject):
            self.recorder.error(f"{answer.reason}: {answer.why}")
            self._end(life, Outcome.REJECTED)
        elif isinstance(answer, Dispatch):
            self._carry_out(life, answer)

    def _carry_out(self, life: Life, dispatch: Dispatch) -> None:
        life.attempts += 1
        if dispatch.prefill is not None:
            self._send(life, dispatch.prefill, Part.PREFILL, dispatch.decode)
        elif dispatch.decode is not None:
            self._send(life, dispatch.decode, Part.WHOLE, None)

    def _send(self, life: Life, instance: InstanceId, part: Part, then: InstanceId | None) -> None:
        """Hand a leg to an instance that may be gone by now."""
        node = self._cluster.serving(instance)
        if node is None or node.engine is None:
            self._failed_attempt(life, instance, "its instance is gone")
            return
        prompt_tokens, output_tokens = life.prompt_tokens, life.output_tokens
        if part is Part.PREFILL:
            output_tokens = 1
        elif part is Part.DECODE and self.options.prefill_answers:
            # The first token of the answer is known already, though its KV is not.
            prompt_tokens, output_tokens = prompt_tokens + 1, output_tokens - 1
        leg = Leg(life.view.request_id, prompt_tokens, output_tokens, life, part, node.number)
        leg.priority = -life.view.priority
        leg.then = then
        if life.prefix:
            # By the trace's blocks: what lies behind the last whole one is the request's own.
            leg.block_hash = life.prefix.__getitem__
            leg.hash_blocks = HASH_BLOCK_TOKENS // node.engine.block_size
            leg.hashes = min(len(life.prefix), life.prompt_tokens // HASH_BLOCK_TOKENS)
        if part is Part.PREFILL:
            leg.hold_kv = True
        elif life.source is not None:
            leg.pull = self._cluster.pull(life.source, node)
        life.leg = leg
        try:
            self._cluster.add(leg, node)
        except RequestTooLongError as error:
            self.recorder.error(str(error))
            self._leave(life, completed=False)
            self._end(life, Outcome.FAILED)

    # --- answers

    def _end_run(self, node: Node) -> None:
        engine, now_ps = node.engine, self._timeline.now_ps
        for output in self._cluster.end_run(node):
            leg = output.request
            if isinstance(leg, Leg):
                if leg.part is Part.PREFILL:
                    if output.finished:
                        self._prefilled(leg)
                    continue
                if leg.life.first_token_ps == NEVER or leg.life.source is not None:
                    self._first_output(leg, node)
                elif leg.preempted_ps != NEVER and leg.life.index >= self.recorder.warm_up:
                    self.recorder.measured.waited(now_ps - leg.preempted_ps, 0, 1, 1)
                leg.preempted_ps = NEVER
                if output.finished:
                    self._finished(leg, node)
        if node.engine is engine:
            self._cluster.begin_run(node)

    def _first_output(self, leg: Leg, node: Node) -> None:
        """The first token of a leg that answers."""
        life = leg.life
        warms_up = life.index < self.recorder.warm_up
        if life.first_token_ps == NEVER:
            life.first_token_ps = self._timeline.now_ps
        elif not warms_up:
            self.recorder.measured.waited(self._timeline.now_ps - life.first_token_ps, 0, 1, 1)
        if warms_up:
            node.warming += 1
        source = life.source
        if source is not None:
            life.source = None
            self._cluster.release_kv(source)
        else:
            now_s = self._timeline.now_ps / PS_PER_S
            self._routers.record(
                life.replica, PrefillEnded(life.view.request_id, now_s), self._timeline.now_ps
            )

    def _finished(self, leg: Leg, node: Node) -> None:
        if leg.life.index < self.recorder.warm_up:
            node.warming -= 1
        self._completed(leg.life)

    def _completed(self, life: Life) -> None:
        self.recorder.of(life.index).completed(
            life.arrived_ps,
            life.first_token_ps,
            self._timeline.now_ps,
            life.output_tokens,
            self._limits[life.prompt_tokens],
        )
        if self.options.on_completed is not None:
            self.options.on_completed(life, self._timeline.now_ps)
        self._leave(life, completed=True)
        self._close(life, completed=True)

    def _prefilled(self, leg: Leg) -> None:
        """The prompt's KV is there: the answer goes on elsewhere."""
        life, now_s = leg.life, self._timeline.now_ps / PS_PER_S
        request_id = life.view.request_id
        if self.options.prefill_answers:
            life.first_token_ps = self._timeline.now_ps
            if life.output_tokens == 1:
                self._cluster.release_kv(leg)
                self._routers.record(life.replica, PrefillEnded(request_id, now_s), self._timeline.now_ps)
                self._completed(life)
                return
        decode = leg.then
        if decode is None:
            chosen = self._routers.choose_decode(life.replica, request_id, self._timeline.now_ps)
            if isinstance(chosen, Reject) or chosen.decode is None:
                self._failed_attempt(life, None, chosen.why)
                return
            decode = chosen.decode
        self._routers.record(life.replica, PrefillEnded(request_id, now_s), self._timeline.now_ps)
        life.source = leg
        self._send(life, decode, Part.DECODE, None)

    def _leave(self, life: Life, *, completed: bool) -> None:
        """The router takes it off its books."""
        life.leg = life.source = None
        tokens = life.output_tokens if completed else 0
        finished = Finished(
            life.view.request_id, self._timeline.now_ps / PS_PER_S, completed=completed, output_tokens=tokens
        )
        self._routers.record(life.replica, finished, self._timeline.now_ps)

    def _end(self, life: Life, outcome: Outcome) -> None:
        self.recorder.of(life.index).offered(life.arrived_ps, self._timeline.now_ps, outcome)
        self._close(life, completed=False)

    def _close(self, life: Life, *, completed: bool) -> None:
        """Its program, if it is of one, goes on."""
        del self._lives[life.view.request_id]
        self.ended += 1
        if life.call is not None and not self._stopped:
            for call in self._programs.ended(life.call, self._timeline.now_ps, completed=completed):
                number = self._programs.schedule(call)
                self._timeline.add(call.at_ps, CALL_ARRIVES, number)

    def _failed_attempt(self, life: Life, instance: InstanceId | None, why: str) -> None:
        """Try again elsewhere while nothing has reached the client, or give up."""
        for leg in (life.leg, life.source):
            if leg is not None:
                self._cluster.drop(leg)
        self._leave(life, completed=False)
        if life.first_token_ps != NEVER or life.attempts >= self.options.attempts:
            self.recorder.error(why)
            self._end(life, Outcome.FAILED)
            return
        self._retries += 1
        if instance is not None:
            life.view = replace(life.view, excluded=life.view.excluded | {instance})
        self._routers.submit(life.replica, life.view, self._timeline.now_ps)

    def _tell_progress(self) -> None:
        """How far every answer is, as routers see it in the streams they pass on."""
        timeline = self._timeline
        for node in self._cluster.nodes:
            engine, run = node.engine, node.run
            if engine is None or run is None:
                continue
            for request, tokens in engine.progress(run, self._timeline.now_ps):
                if isinstance(request, Leg) and request.part is not Part.PREFILL:
                    earlier = request.life.output_tokens - request.output_tokens
                    progress = Progress(request.request_id, earlier + tokens)
                    self._routers.record(request.life.replica, progress, self._timeline.now_ps)
        timeline.add(timeline.now_ps + PROGRESS_PS, PROGRESS_IS_TOLD, 0)

    # --- the end

    def _result(self) -> SimulationResult:
        for life in list(self._lives.values()):
            self._end(life, Outcome.UNFINISHED)
        self.recorder.settle()
        return SimulationResult(
            self.recorder,
            self._cluster.counters(),
            sum(node.lived_s(self._timeline.now_ps) for node in self._cluster.nodes),
            self._retries,
            self._timeline.now_ps,
            self._stopped,
            self._programs,
            self._routers.explanations,
        )


def _due_ps(upcoming: TraceRequest | None) -> int:
    if upcoming is None:
        return NO_MORE
    days = upcoming.arrival_s / DAY_S
    if days > LAST_ARRIVAL_DAYS:
        raise ArrivalTooLateError(
            f"a request arrives {days:.0f} days after the first; a simulation takes those of {LAST_ARRIVAL_DAYS} days: "
            "cut the trace, or raise its rate"
        )
    return to_ps(upcoming.arrival_s)
