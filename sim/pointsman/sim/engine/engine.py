"""Iteration-level continuous batching on a clock that is passed in.

The owner drives it: `begin` plans one iteration that starts now, `end` takes its result at `iteration.end_ps`.
Time is an integer number of picoseconds and never read from anywhere. A simulator leaps instead: `begin_run` plans
as many iterations as are alike, `cut` shortens the run when something arrives, `end_run` takes its result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pointsman.core.perf import EngineProfile, iterations_until, rising_ps
from pointsman.sim.engine.blocks import BlockPool
from pointsman.sim.engine.options import EngineCounters, EngineOptions, EngineStats
from pointsman.sim.engine.request import EngineRequest
from pointsman.sim.engine.scheduler import Plan, Scheduler
from pointsman.sim.engine.transfers import Leases


class RequestTooLongError(ValueError):
    """The prompt, or the prompt and its answer, can never fit into this engine."""


@dataclass(init=False, slots=True)
class Iteration:
    """One planned iteration, or a run of iterations that are alike."""

    start_ps: int
    end_ps: int
    chunks: list[tuple[EngineRequest, int]]
    """Who computes how many tokens of a prompt (or of what it lost when it was preempted)."""
    decoding: list[EngineRequest]
    """Who computes one token each. Not listed for a run."""
    prefill_tokens: int
    decode_sequences: int
    decode_context_tokens: int
    """Of the first iteration of a run, as `core.perf.IterationCost` counts them."""
    first_ps: int
    """How long the first iteration of a run takes."""
    step_ps: int
    """How much longer than the one before each further one takes."""
    iterations: int = 1
    begun: int = 1
    """Iterations whose blocks are taken."""
    singles: int = 0
    """Chunks of one token, which count among the sequences that decode."""

    def __init__(
        self,
        start_ps: int,
        end_ps: int,
        chunks: list[tuple[EngineRequest, int]],
        decoding: list[EngineRequest],
        prefill_tokens: int,
        decode_sequences: int,
        decode_context_tokens: int,
        first_ps: int,
        step_ps: int,
        iterations: int = 1,
        begun: int = 1,
        singles: int = 0,
    ) -> None:
        self.start_ps = start_ps
        self.end_ps = end_ps
        self.first_ps = first_ps
        self.step_ps = step_ps
        self.chunks = chunks
        self.decoding = decoding
        self.prefill_tokens = prefill_tokens
        self.decode_sequences = decode_sequences
        self.decode_context_tokens = decode_context_tokens
        self.iterations = iterations
        self.begun = begun
        self.singles = singles

    @property
    def scheduled(self) -> list[tuple[EngineRequest, int]]:
        """Requests and their tokens, in the order in which they came to run."""
        return [(request, 1) for request in self.decoding] + self.chunks


@dataclass(init=False, slots=True)
class Output:
    """A request got tokens."""

    request: EngineRequest
    new_tokens: int
    finished: bool

    def __init__(self, request: EngineRequest, new_tokens: int, finished: bool) -> None:  # noqa: FBT001 - a value among values
        self.request = request
        self.new_tokens = new_tokens
        self.finished = finished


class Engine:
    """One instance. Requests wait, run and end; a request with held KV lives on as a lease."""

    def __init__(self, profile: EngineProfile, options: EngineOptions | None = None) -> None:
        self.profile = profile
        self.options = options or EngineOptions()
        capacity = self.options.kv_capacity_tokens or profile.kv_capacity_tokens
        self.max_context_tokens = min(
            self.options.max_context_tokens or profile.max_context_tokens or capacity, capacity
        )
        self._chunk_tokens = self.options.chunk_tokens
        self.max_sequences = self.options.max_sequences or profile.max_sequences
        self.block_size = profile.block_size
        self.pool = BlockPool(capacity // profile.block_size)
        self._requests: dict[str, EngineRequest] = {}
        self._arrived = 0
        self._scheduler = Scheduler(self.pool, self.block_size, self.max_sequences, self.options)
        self._leases = Leases(self.options.lease_ps)

    @property
    def counters(self) -> EngineCounters:
        return self._scheduler.counters

    # --- from outside

    def add(self, request: EngineRequest, now_ps: int) -> None:
        """Let a request wait for its turn.

        Raises:
            RequestTooLongError: it could never run here.
            ValueError: its id is in use, or it asks for no token.

        """
        if request.request_id in self._requests:
            raise ValueError(f"request id {request.request_id!r} is running already")
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError("a request needs at least one prompt token and one output token")
        total = request.prompt_tokens + request.output_tokens
        if total > self.max_context_tokens or self._scheduler.blocks_of(total - 1) > self.pool.total:
            raise RequestTooLongError(
                f"{request.prompt_tokens} prompt and {request.output_tokens} output tokens exceed the longest "
                f"context of {self.max_context_tokens} tokens"
            )
        request.arrived_ps = now_ps
        request.number = self._arrived
        self._arrived += 1
        self._requests[request.request_id] = request
        self._scheduler.enqueue(request)

    def abort(self, request_id: str) -> bool:
        """End a request and free its blocks at once. False: it is not here.

        An iteration under way goes on without it. A run must have been cut and ended before.
        """
        request = self._requests.pop(request_id, None)
        if request is None:
            return False
        self._scheduler.remove(request)
        return True

    def held_tokens(self, request_id: str) -> int | None:
        """Tokens whose KV a finished request still holds for others, or None."""
        held = self._leases.get(request_id)
        return None if held is None else held.own_computed

    def renew_kv(self, request_id: str, now_ps: int) -> bool:
        """Let a lease begin anew, as heartbeats of whoever will pull it do. False: there is none (any more)."""
        return self._leases.renew(request_id, now_ps)

    def release_kv(self, request_id: str) -> bool:
        """End a lease: its KV was pulled, or nobody wants it. False: there is none (any more)."""
        held = self._leases.release(request_id)
        if held is None:
            return False
        self._scheduler.free(held)
        return True

    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._requests)

    def requests(self) -> Iterator[EngineRequest]:
        """Every request that waits or runs."""
        return iter(list(self._requests.values()))

    def wake_ps(self) -> int | None:
        """When something happens by itself though no iteration runs: KV arrives, or a lease expires."""
        arrival, expiry = self._scheduler.next_arrival_ps(), self._leases.next_ps()
        if arrival is None or expiry is None:
            return arrival if expiry is None else expiry
        return min(arrival, expiry)

    def watch_cache(
        self, on_cached: Callable[[EngineRequest, int, int], None], on_evicted: Callable[[int], None]
    ) -> None:
        """Be told of blocks that enter the prefix cache (request, first, behind the last) and of hashes that leave."""
        self._scheduler.on_cached = on_cached
        self.pool.on_evicted = on_evicted

    def stats(self) -> EngineStats:
        """The engine at the beginning of what is under way."""
        scheduler, pool = self._scheduler, self.pool
        return EngineStats(scheduler.running, scheduler.waiting, pool.used, pool.total, self.counters)

    # --- one iteration

    def begin(self, now_ps: int) -> Iteration | None:
        """Plan the iteration that starts now. None: nothing can run until something changes (`wake_ps`)."""
        plan = self._plan(now_ps)
        decoding = [request for request in self._scheduler.batch if request not in plan.held_back]
        return self._price(plan, decoding)

    def end(self, iteration: Iteration) -> list[Output]:
        """What the iteration produced. Requests that were aborted meanwhile get nothing."""
        last = set(self._scheduler.batch.end())
        outputs = [
            Output(request, 1, request in last) for request in iteration.decoding if request.clock is not None
        ]
        self.counters.iterations += 1
        self.counters.generated_tokens += len(outputs)
        for output in outputs:
            if output.finished:
                self._scheduler.batch.leave(output.request)
                self._finish(output.request, iteration.end_ps)
        return outputs + self._first_tokens(iteration.end_ps)

    # --- runs of iterations

    def begin_run(self, now_ps: int) -> Iteration | None:
        """Plan as many iterations as are alike: nobody joins, ends, waits for a block or is let in before the last.

        Taking its result at its end, or cutting it first, equals stepping through its iterations.
        """
        leap = self._leap(now_ps)
        if leap is not None:
            return leap
        plan = self._plan(now_ps)
        run = self._price(plan, [])
        if run is not None and not (plan.chunks or plan.preempted or plan.held_back):
            self._stretch(run)
        return run

    def cut(self, run: Iteration, at_ps: int) -> None:
        """Let the run end with the iteration that is under way at that time (or ends just then).

        From then on the engine is what stepping to that time would have made of it.
        """
        if at_ps < run.end_ps and run.iterations > run.begun:
            self._shorten(run, max(run.begun, self._iterations_until(run, at_ps)))
        self._begin_rest(run)

    def end_run(self, run: Iteration) -> list[Output]:
        """What the run produced for those who got their first token (since a preemption) or their last."""
        scheduler = self._scheduler
        batch, counters = scheduler.batch, scheduler.counters
        if run.begun < run.iterations:
            self._begin_rest(run)
        counters.iterations += run.iterations
        counters.generated_tokens += (run.decode_sequences - run.singles) * run.iterations
        outputs = []
        for request in batch.end():
            batch.leave(request)
            self._finish(request, run.end_ps)
            outputs.append(Output(request, run.iterations, True))  # noqa: FBT003 - faster than by name
        if scheduler.joining:
            outputs += self._first_tokens(run.end_ps)
        return outputs

    def progress(self, run: Iteration, at_ps: int) -> Iterator[tuple[EngineRequest, int]]:
        """Who decodes in a run that is under way, and how many tokens each has at that time."""
        batch = self._scheduler.batch
        reading = batch.clock.ended + self._ended(run, at_ps)
        for request in batch:
            yield request, request.own_generated + reading - request.joined

    def abandon(self, run: Iteration, at_ps: int) -> int:
        """The engine ends with a run under way, which counts as far as it got. Returns the iterations that ended."""
        ended = self._ended(run, at_ps)
        self.counters.iterations += ended
        self.counters.generated_tokens += ended * run.decode_sequences
        return ended

    # --- inside

    def _ended(self, run: Iteration, at_ps: int) -> int:
        """Iterations of a run under way that have ended by then."""
        if run.iterations == 1 or at_ps <= run.start_ps:
            return 0
        return self._iterations_until(run, at_ps + 1) - 1

    def _begin_rest(self, run: Iteration) -> None:
        """Take the blocks for iterations of a run that were not begun one by one."""
        more = run.iterations - run.begun
        if more:
            scheduler = self._scheduler
            batch = scheduler.batch
            self.pool.take(batch.blocks_needed(more))
            begun = batch.clock.begun
            batch.begin(more)
            if batch.hashed:
                scheduler.fill_decoded(begun + 1, begun + more)
            run.begun = run.iterations

    def _leap(self, now_ps: int) -> Iteration | None:
        """The run of an engine on which nobody can do anything but decode, planned without a look at anybody; it begins
        its first iteration, too, when it is cut or ends. None: there is more to see to.
        """
        scheduler = self._scheduler
        batch = scheduler.batch
        sequences = batch.size
        if scheduler.unready or not 0 < sequences <= self._chunk_tokens or len(self._leases):
            return None
        iterations = batch.iterations_within(self.pool.available, batch.iterations_left())
        if not iterations:  # somebody is preempted
            return None
        cost = self.profile.cost
        context_tokens = batch.context_tokens + sequences
        first_ps = cost.decode_first_ps(sequences, context_tokens)
        step_ps = cost.tc_ps * sequences
        end_ps = now_ps + rising_ps(iterations, first_ps, step_ps)
        return Iteration(
            now_ps, end_ps, [], [], 0, sequences, context_tokens, first_ps, step_ps, iterations, 0
        )

    def _plan(self, now_ps: int) -> Plan:
        for request in self._leases.expired(now_ps):
            self._scheduler.free(request)
        plan = self._scheduler.plan(now_ps)
        while plan.preempted and plan.idle:  # the only one that ran preempted itself: others can start now
            plan = self._scheduler.plan(now_ps)
        return plan

    def _price(self, plan: Plan, decoding: list[EngineRequest]) -> Iteration | None:
        """The iteration and its time. A chunk of one token is decoding to the kernels, whatever it is for."""
        if plan.idle:
            return None
        sequences = plan.decoding
        prefill_tokens = attention_x2 = prefill_chunks = 0
        context_tokens = self._scheduler.batch.context_tokens
        for request in plan.held_back:
            context_tokens -= request.computed_tokens
        for request, tokens in plan.chunks:
            if tokens == 1:
                sequences += 1
                context_tokens += request.own_computed
            else:
                prefill_chunks += 1
                prefill_tokens += tokens
                attention_x2 += tokens * (2 * request.own_computed - tokens)
        duration_ps = self.profile.cost.iteration_ps(
            prefill_tokens, attention_x2, sequences, context_tokens, prefill_chunks
        )
        end_ps = plan.now_ps + duration_ps
        return Iteration(
            plan.now_ps,
            end_ps,
            plan.chunks,
            decoding,
            prefill_tokens,
            sequences,
            context_tokens,
            duration_ps,
            self.profile.cost.tc_ps * sequences,
            singles=sequences - plan.decoding,
        )

    def _stretch(self, run: Iteration) -> None:
        """Make a run as long as nothing changes."""
        batch = self._scheduler.batch
        iterations = 1 + batch.iterations_within(self.pool.available, batch.iterations_left() - 1)
        if iterations > 1 and batch.hashed and self._scheduler.lookup_waits():
            iterations = batch.fills_next(iterations) or iterations
        wake_ps = self.wake_ps()
        if wake_ps is not None:
            iterations = min(iterations, self._iterations_until(run, wake_ps))
        if iterations > 1:
            self._shorten(run, iterations)

    def _shorten(self, run: Iteration, iterations: int) -> None:
        run.iterations = iterations
        run.end_ps = run.start_ps + rising_ps(iterations, run.first_ps, run.step_ps)

    def _iterations_until(self, run: Iteration, at_ps: int) -> int:
        return iterations_until(at_ps - run.start_ps, run.first_ps, run.step_ps)

    def _first_tokens(self, now_ps: int) -> list[Output]:
        """Prompts that are computed to their end give a token, and decode from now on."""
        scheduler = self._scheduler
        outputs = []
        for request in scheduler.joining:
            request.own_generated += 1
            self.counters.generated_tokens += 1
            if request.first_token_ps is None:
                request.first_token_ps = now_ps
                self.counters.prompt_tokens += request.prompt_tokens
            done = request.own_generated == request.output_tokens
            if done:
                self._finish(request, now_ps)
            else:
                scheduler.batch.join(request)
            outputs.append(Output(request, 1, done))
        scheduler.joining.clear()
        return outputs

    def _finish(self, request: EngineRequest, now_ps: int) -> None:
        request.finished_ps = now_ps
        del self._requests[request.request_id]
        released: EngineRequest | None = request
        if request.hold_kv:
            released = self._leases.grant(request, now_ps)
        if released is not None:
            self._scheduler.free(released)
