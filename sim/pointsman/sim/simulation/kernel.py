"""The event loop of a simulated cluster. One queue, integer time, one order of events for one workload and seed.

At equal times runs of iterations end first, then instances are lost or start, progress is told, routers wake, requests
arrive, then later calls of programs, and then idle instances begin; ties within a kind go by instance, router and order of arrival. Nothing depends on whether runs
leap or step, so both give the same result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Final

from pointsman.core.decisions import Decision, Dispatch, Reject
from pointsman.core.events import Finished, InstanceHealth, InstanceLost, InstanceSeen, PrefillEnded, Progress
from pointsman.core.instances import InstanceId
from pointsman.core.requests import RequestView
from pointsman.core.slo import Slo
from pointsman.core.units import PS_PER_S, to_ps
from pointsman.sim.engine import EngineCounters, Iteration, KvPull, RequestTooLongError
from pointsman.sim.predictors import Predictor
from pointsman.sim.report import Outcome
from pointsman.sim.simulation.lives import NEVER, Leg, Life, Part
from pointsman.sim.simulation.node import Link, Node, add_counters
from pointsman.sim.simulation.options import MODEL, Happening, InstanceChange, SimulationOptions
from pointsman.sim.simulation.programs import ProgramCall, Programs
from pointsman.sim.simulation.recorder import Limits, Recorder
from pointsman.sim.simulation.routers import Routers
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest, Workload

RUN_ENDS: Final = 0
INSTANCE_CHANGES: Final = 1
PROGRESS_IS_TOLD: Final = 2
ROUTER_WAKES: Final = 3
CALL_ARRIVES: Final = 4
INSTANCE_WAKES: Final = 5
STARTED_UP: Final = 1
"""Version of an instance change's event that ends a start-up."""
PROGRESS_PS: Final = 1_000_000_000_000
"""How often routers hear of progress, as the live router records it."""
NO_MORE: Final = (1 << 62) - 1
"""Later than anything: 53 days."""

QueuedEvent = tuple[int, int, int, int]
"""Time, kind, number of the instance, change or router, and the version of the instance's run."""


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
        self._queue: list[QueuedEvent] = []
        self._nodes: list[Node] = []
        self._by_id: dict[InstanceId, Node] = {}
        self._links: dict[tuple[int, int], Link] = {}
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
        self._changes: list[InstanceChange] = sorted(options.changes, key=lambda change: change.at_s)
        self._now_ps = 0
        self._turn = NO_MORE
        """While runs end: whose run it is. Else all that end now have ended."""
        self._offered = 0
        self._retries = 0
        self._stopped = False

    def stop(self) -> None:
        """End the run after the present event; what runs then is unfinished."""
        self._stopped = True

    def run(self, on_progress: Callable[[int], None] | None = None, every: int = 2000) -> SimulationResult:
        """Until the last request has ended. `on_progress` hears how many have, about every `every` arrivals."""
        self._start_instances()
        queue, nodes = self._queue, self._nodes
        upcoming = next(self._arrivals, None)
        arrival_ps = NO_MORE if upcoming is None else to_ps(upcoming.arrival_s)
        # What is queued and sorts before this comes before the next arrival.
        arrival = (arrival_ps, CALL_ARRIVES, 0, 0)
        while not self._stopped:
            if queue and queue[0] < arrival:
                if upcoming is None and not self._lives and not self._programs.pending:
                    break  # only timers are left
                now_ps, kind, number, version = heappop(queue)
                if kind == RUN_ENDS:
                    node = nodes[number]
                    if node.version == version:
                        self._now_ps = now_ps
                        self._turn = number
                        self._end_run(node)
                        self._turn = NO_MORE
                else:
                    self._now_ps = now_ps
                    self._happen(kind, number, version)
            elif upcoming is not None:
                self._now_ps = max(self._now_ps, arrival_ps)
                self._arrive(upcoming, arrival_ps)
                if on_progress is not None and self._offered % every == 0:
                    on_progress(self.ended)
                upcoming = next(self._arrivals, None)
                arrival_ps = NO_MORE if upcoming is None else to_ps(upcoming.arrival_s)
                arrival = (arrival_ps, CALL_ARRIVES, 0, 0)
            else:
                break
        return self._result()

    # --- the queue

    def _happen(self, kind: int, number: int, version: int) -> None:
        """Whatever but the end of a run."""
        if kind == INSTANCE_WAKES:
            node = self._nodes[number]
            if node.version == version and node.run is None:
                self._begin_run(node)
        elif kind == INSTANCE_CHANGES:
            self._change(number, ready=version == STARTED_UP)
        elif kind == CALL_ARRIVES:
            self._offer_call(self._programs.arrived(number))
        elif kind == PROGRESS_IS_TOLD:
            self._tell_progress()
        else:
            self._routers.wake(number, self._now_ps)

    def _wake_router(self, at_ps: int, replica: int) -> None:
        heappush(self._queue, (at_ps, ROUTER_WAKES, replica, 0))

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
        node = self._by_id.get(instance)
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
            leg.pull = self._pull(life.source, node)
        life.leg = leg
        if node.run is not None:
            self._cut(node, node.run)
        try:
            node.engine.add(leg, self._now_ps)
        except RequestTooLongError as error:
            self.recorder.error(str(error))
            self._leave(life, completed=False)
            self._end(life, Outcome.FAILED)
            return
        if node.run is None:
            # Begun by an event of its own, so that all that arrives now is there.
            heappush(self._queue, (self._now_ps, INSTANCE_WAKES, node.number, node.version))

    def _pull(self, source: Leg, target: Node) -> KvPull:
        key = (source.node, target.number)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self._nodes[source.node], target)
        return KvPull(source.prompt_tokens, 0, link.arrive_ps)

    # --- runs of iterations

    def _begin_run(self, node: Node) -> None:
        engine = node.engine
        if engine is None:
            return
        run = engine.begin_run(self._now_ps)
        node.run = run
        node.version += 1
        if run is not None:
            if self.options.stepwise and run.iterations > 1:
                engine.cut(run, self._now_ps)
            heappush(self._queue, (run.end_ps, RUN_ENDS, node.number, node.version))
            return
        wake_ps = engine.wake_ps()
        if wake_ps is not None:
            heappush(self._queue, (wake_ps, INSTANCE_WAKES, node.number, node.version))
        elif node.draining:
            self._retire(node)

    def _cut(self, node: Node, run: Iteration) -> None:
        """Something has come: let the run end with the iteration under way."""
        engine = node.engine
        if engine is None or run.iterations == 1:
            return
        end_ps = run.end_ps
        # An iteration that ends just now has made way for the next one where stepping would have had its turn by now.
        engine.cut(run, self._now_ps + (node.number < self._turn))
        if run.end_ps != end_ps:
            node.version += 1
            heappush(self._queue, (run.end_ps, RUN_ENDS, node.number, node.version))

    def _end_run(self, node: Node) -> None:
        engine, run = node.engine, node.run
        if engine is None or run is None:
            return
        node.run = None
        outputs = engine.end_run(run)
        waited = run.decode_sequences - run.singles - node.warming
        if waited > 0:
            self.recorder.measured.waited(run.first_ps, run.step_ps, run.iterations, waited)
        for output in outputs:
            leg = output.request
            if isinstance(leg, Leg):
                if leg.part is Part.PREFILL:
                    if output.finished:
                        self._prefilled(leg)
                    continue
                if leg.life.first_token_ps == NEVER or leg.life.source is not None:
                    self._first_output(leg, node)
                elif leg.preempted_ps != NEVER and leg.life.index >= self.recorder.warm_up:
                    self.recorder.measured.waited(self._now_ps - leg.preempted_ps, 0, 1, 1)
                leg.preempted_ps = NEVER
                if output.finished:
                    self._finished(leg, node)
        if node.engine is engine:
            self._begin_run(node)

    def _first_output(self, leg: Leg, node: Node) -> None:
        """The first token of a leg that answers."""
        life = leg.life
        warms_up = life.index < self.recorder.warm_up
        if life.first_token_ps == NEVER:
            life.first_token_ps = self._now_ps
        elif not warms_up:
            self.recorder.measured.waited(self._now_ps - life.first_token_ps, 0, 1, 1)
        if warms_up:
            node.warming += 1
        source = life.source
        if source is not None:
            life.source = None
            self._release_kv(source)
        else:
            now_s = self._now_ps / PS_PER_S
            self._routers.record(life.replica, PrefillEnded(life.view.request_id, now_s), self._now_ps)

    def _release_kv(self, source: Leg) -> None:
        """What a prefill leg holds is needed no more."""
        holder = self._nodes[source.node]
        if holder.engine is None:
            return
        if holder.run is not None:
            self._cut(holder, holder.run)
        holder.engine.release_kv(source.request_id)
        if holder.run is None:
            heappush(self._queue, (self._now_ps, INSTANCE_WAKES, holder.number, holder.version))

    def _finished(self, leg: Leg, node: Node) -> None:
        if leg.life.index < self.recorder.warm_up:
            node.warming -= 1
        self._completed(leg.life)

    def _completed(self, life: Life) -> None:
        self.recorder.of(life.index).completed(
            life.arrived_ps,
            life.first_token_ps,
            self._now_ps,
            life.output_tokens,
            self._limits[life.prompt_tokens],
        )
        if self.options.on_completed is not None:
            self.options.on_completed(life, self._now_ps)
        self._leave(life, completed=True)
        self._close(life, completed=True)

    def _prefilled(self, leg: Leg) -> None:
        """The prompt's KV is there: the answer goes on elsewhere."""
        life, now_s = leg.life, self._now_ps / PS_PER_S
        request_id = life.view.request_id
        if self.options.prefill_answers:
            life.first_token_ps = self._now_ps
            if life.output_tokens == 1:
                self._release_kv(leg)
                self._routers.record(life.replica, PrefillEnded(request_id, now_s), self._now_ps)
                self._completed(life)
                return
        decode = leg.then
        if decode is None:
            chosen = self._routers.choose_decode(life.replica, request_id, self._now_ps)
            if isinstance(chosen, Reject) or chosen.decode is None:
                self._failed_attempt(life, None, chosen.why)
                return
            decode = chosen.decode
        self._routers.record(life.replica, PrefillEnded(request_id, now_s), self._now_ps)
        life.source = leg
        self._send(life, decode, Part.DECODE, None)

    def _leave(self, life: Life, *, completed: bool) -> None:
        """The router takes it off its books."""
        life.leg = life.source = None
        tokens = life.output_tokens if completed else 0
        finished = Finished(
            life.view.request_id, self._now_ps / PS_PER_S, completed=completed, output_tokens=tokens
        )
        self._routers.record(life.replica, finished, self._now_ps)

    def _end(self, life: Life, outcome: Outcome) -> None:
        self.recorder.of(life.index).offered(life.arrived_ps, self._now_ps, outcome)
        self._close(life, completed=False)

    def _close(self, life: Life, *, completed: bool) -> None:
        """Its program, if it is of one, goes on."""
        del self._lives[life.view.request_id]
        self.ended += 1
        if life.call is not None and not self._stopped:
            for call in self._programs.ended(life.call, self._now_ps, completed=completed):
                number = self._programs.schedule(call)
                heappush(self._queue, (call.at_ps, CALL_ARRIVES, number, 0))

    def _failed_attempt(self, life: Life, instance: InstanceId | None, why: str) -> None:
        """Try again elsewhere while nothing has reached the client, or give up."""
        self._drop_legs(life)
        self._leave(life, completed=False)
        if life.first_token_ps != NEVER or life.attempts >= self.options.attempts:
            self.recorder.error(why)
            self._end(life, Outcome.FAILED)
            return
        self._retries += 1
        if instance is not None:
            life.view = replace(life.view, excluded=life.view.excluded | {instance})
        self._routers.submit(life.replica, life.view, self._now_ps)

    def _drop_legs(self, life: Life) -> None:
        """Free what an attempt that failed holds on instances that live."""
        for leg in (life.leg, life.source):
            if leg is None:
                continue
            node = self._nodes[leg.node]
            if node.engine is None:
                continue
            if node.run is not None:
                self._cut(node, node.run)
            if not node.engine.release_kv(leg.request_id):
                node.engine.abort(leg.request_id)

    # --- instances

    def _start_instances(self) -> None:
        options = self.options
        names: dict[str, int] = {}
        for pool in options.pools:
            for _ in range(pool.count):
                names[pool.name] = number = names.get(pool.name, 0) + 1
                node = Node(len(self._nodes), f"{pool.name}/{number}", pool, options.engine)
                self._nodes.append(node)
        late = {c.instance for c in self._changes if c.happening is Happening.STARTED}
        first = {change.instance: change.happening for change in reversed(self._changes)}
        for node in self._nodes:
            if node.name not in late or first[node.name] is not Happening.STARTED:
                node.begin_start(0)
                self._start(node)
        for number, change in enumerate(self._changes):
            heappush(self._queue, (to_ps(change.at_s), INSTANCE_CHANGES, number, 0))
        if options.report_progress:
            heappush(self._queue, (PROGRESS_PS, PROGRESS_IS_TOLD, 0, 0))

    def _start(self, node: Node) -> None:
        instance = node.start()
        self._by_id[instance.id] = node
        self._routers.observe(InstanceSeen(instance), self._now_ps)
        self._routers.observe(InstanceHealth(instance.id, available=True), self._now_ps)

    def _change(self, number: int, *, ready: bool) -> None:
        change = self._changes[number]
        node = next(node for node in self._nodes if node.name == change.instance)
        if ready:
            if node.starting and node.started_ps == to_ps(change.at_s):  # nothing befell it since
                self._start(node)
        elif change.happening is Happening.STARTED:
            if node.engine is None and not node.starting:
                node.begin_start(self._now_ps)
                ready_ps = self._now_ps + to_ps(change.startup_s)
                heappush(self._queue, (ready_ps, INSTANCE_CHANGES, number, STARTED_UP))
        elif node.starting:
            node.lose(self._now_ps)
        elif change.happening is Happening.DRAINED:
            self._drain(node)
        else:
            self._lose(node)

    def _drain(self, node: Node) -> None:
        if node.instance is None or node.draining:
            return
        node.draining = True
        self._routers.observe(InstanceHealth(node.instance.id, available=False), self._now_ps)
        if node.run is None:
            self._retire(node)

    def _retire(self, node: Node) -> None:
        """A drained instance goes when nobody needs anything of it any more."""
        engine, instance = node.engine, node.instance
        if engine is None or instance is None or engine.has_work() or engine.wake_ps() is not None:
            return
        if any(life.leg is not None and life.leg.then == instance.id for life in self._lives.values()):
            return
        self._forget(node, instance.id)

    def _forget(self, node: Node, instance: InstanceId) -> None:
        node.lose(self._now_ps)
        del self._by_id[instance]
        self._routers.observe(InstanceLost(instance), self._now_ps)

    def _lose(self, node: Node) -> None:
        """With all that runs there."""
        engine, instance = node.engine, node.instance
        if engine is None or instance is None:
            return
        held = [
            life
            for life in self._lives.values()
            if life.source is not None and life.source.node == node.number
        ]
        lost = [leg.life for leg in engine.requests() if isinstance(leg, Leg)]
        if node.run is not None:
            run = node.run
            iterations, waited = (
                engine.abandon(run, self._now_ps),
                run.decode_sequences - run.singles - node.warming,
            )
            if iterations and waited > 0:
                self.recorder.measured.waited(run.first_ps, run.step_ps, iterations, waited)
        self._forget(node, instance.id)
        for life in dict.fromkeys(lost + held):
            self._failed_attempt(life, instance.id, f"{node.name} was lost")

    def _tell_progress(self) -> None:
        """How far every answer is, as routers see it in the streams they pass on."""
        for node in self._nodes:
            engine, run = node.engine, node.run
            if engine is None or run is None:
                continue
            for request, tokens in engine.progress(run, self._now_ps):
                if isinstance(request, Leg) and request.part is not Part.PREFILL:
                    earlier = request.life.output_tokens - request.output_tokens
                    progress = Progress(request.request_id, earlier + tokens)
                    self._routers.record(request.life.replica, progress, self._now_ps)
        heappush(self._queue, (self._now_ps + PROGRESS_PS, PROGRESS_IS_TOLD, 0, 0))

    # --- the end

    def _result(self) -> SimulationResult:
        for life in list(self._lives.values()):
            self._end(life, Outcome.UNFINISHED)
        self.recorder.settle()
        counters = EngineCounters()
        for node in self._nodes:
            add_counters(counters, node.past)
            if node.engine is not None:
                add_counters(counters, node.engine.counters)
        return SimulationResult(
            self.recorder,
            counters,
            sum(node.lived_s(self._now_ps) for node in self._nodes),
            self._retries,
            self._now_ps,
            self._stopped,
            self._programs,
            self._routers.explanations,
        )
