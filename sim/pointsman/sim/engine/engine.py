"""Iteration-level continuous batching, as vLLM V1 schedules it, on a clock that is passed in.

The owner drives it: `begin` plans one iteration that starts now, `end` takes its result at `iteration.end_ps`.
Time is an integer number of picoseconds and never read from anywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pointsman.core.perf import EngineProfile
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine.blocks import BlockPool
from pointsman.sim.engine.queue import WaitingQueue
from pointsman.sim.engine.request import EngineRequest, KvPull


class Scheduling(StrEnum):
    FCFS = "fcfs"
    PRIORITY = "priority"


class RequestTooLongError(ValueError):
    """The prompt, or the prompt and its answer, can never fit into this engine."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an operator sets on the command line of an engine."""

    chunk_tokens: int = 2048
    """Token budget of an iteration (vLLM's max_num_batched_tokens)."""
    scheduling: Scheduling = Scheduling.FCFS
    prefix_caching: bool = True
    kv_capacity_tokens: int = 0
    """0: the profile's."""
    max_sequences: int = 0
    """0: the profile's."""
    max_context_tokens: int = 0
    """0: the profile's."""
    lease_ps: int = 30 * PS_PER_S
    """How long held KV waits to be pulled."""


@dataclass(slots=True)
class Iteration:
    """One planned iteration: which request computes how many tokens."""

    start_ps: int
    end_ps: int
    scheduled: list[tuple[EngineRequest, int]]
    prefill_tokens: int
    decode_sequences: int


@dataclass(slots=True)
class Output:
    """A request got tokens."""

    request: EngineRequest
    new_tokens: int
    finished: bool


@dataclass(slots=True)
class EngineCounters:
    """Sums since the start."""

    iterations: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of requests that got their first token."""
    generated_tokens: int = 0
    prefix_queries: int = 0
    """Tokens looked up in the prefix cache."""
    prefix_hits: int = 0
    pulled_tokens: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine now."""

    running: int
    waiting: int
    used_blocks: int
    total_blocks: int
    counters: EngineCounters


@dataclass(slots=True)
class _Held:
    request: EngineRequest
    tokens: int
    expires_ps: int


@dataclass(slots=True)
class _Arriving:
    request: EngineRequest
    at_ps: int


@dataclass(slots=True)
class _Plan:
    """The iteration while it is put together."""

    budget: int
    scheduled: list[tuple[EngineRequest, int]] = field(default_factory=list)
    preempted: bool = False


class Engine:
    """One instance. Requests wait, run and end; a request with held KV lives on as a lease."""

    def __init__(self, profile: EngineProfile, options: EngineOptions | None = None) -> None:
        self.profile = profile
        self.options = options or EngineOptions()
        capacity = self.options.kv_capacity_tokens or profile.kv_capacity_tokens
        self.max_context_tokens = min(
            self.options.max_context_tokens or profile.max_context_tokens or capacity, capacity
        )
        self.max_sequences = self.options.max_sequences or profile.max_sequences
        self.block_size = profile.block_size
        self.pool = BlockPool(capacity // profile.block_size)
        self.counters = EngineCounters()
        self._requests: dict[str, EngineRequest] = {}
        self._running: list[EngineRequest] = []
        self._waiting = WaitingQueue(by_priority=self.options.scheduling is Scheduling.PRIORITY)
        self._arriving: list[_Arriving] = []
        self._held: dict[str, _Held] = {}

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
        if total > self.max_context_tokens or self._blocks(total - 1) > self.pool.total:
            raise RequestTooLongError(
                f"{request.prompt_tokens} prompt and {request.output_tokens} output tokens exceed the longest "
                f"context of {self.max_context_tokens} tokens"
            )
        request.arrived_ps = now_ps
        self._requests[request.request_id] = request
        self._waiting.append(request)

    def abort(self, request_id: str) -> bool:
        """End a request and free its blocks at once. False: it is not here."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return False
        if request in self._running:
            self._running.remove(request)
        elif not self._waiting.remove(request):
            self._arriving = [arriving for arriving in self._arriving if arriving.request is not request]
        self.pool.free(request.blocks)
        return True

    def held_tokens(self, request_id: str) -> int | None:
        """Tokens whose KV a finished request still holds for others, or None."""
        held = self._held.get(request_id)
        return None if held is None else held.tokens

    def release_kv(self, request_id: str) -> bool:
        """End a lease: its KV was pulled, or nobody wants it. False: there is none (any more)."""
        held = self._held.pop(request_id, None)
        if held is None:
            return False
        self.pool.free(held.request.blocks)
        return True

    def renew_kv(self, request_id: str, now_ps: int) -> bool:
        """Let a lease begin anew, as the heartbeats of whoever will pull it do. False: there is none (any more)."""
        held = self._held.get(request_id)
        if held is None:
            return False
        held.expires_ps = now_ps + self.options.lease_ps
        return True

    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._requests)

    def requests(self) -> Iterator[EngineRequest]:
        """Every request that waits or runs."""
        return iter(list(self._requests.values()))

    def wake_ps(self) -> int | None:
        """When something happens by itself though no iteration runs: KV arrives, or a lease expires."""
        times = [arriving.at_ps for arriving in self._arriving]
        times += [held.expires_ps for held in self._held.values()]
        return min(times, default=None)

    def stats(self) -> EngineStats:
        waiting = len(self._waiting) + len(self._arriving)
        return EngineStats(len(self._running), waiting, self.pool.used, self.pool.total, self.counters)

    # --- one iteration

    def begin(self, now_ps: int) -> Iteration | None:
        """Plan the iteration that starts now. None: nothing can run until something changes (`wake_ps`)."""
        self._expire(now_ps)
        self._receive(now_ps)
        plan = _Plan(self.options.chunk_tokens)
        self._schedule_running(plan)
        if not plan.preempted:
            self._admit(plan, now_ps)
        if not plan.scheduled:
            return None
        return self._price(plan, now_ps)

    def end(self, iteration: Iteration) -> list[Output]:
        """What the iteration produced. Requests that were aborted or preempted meanwhile get nothing."""
        self.counters.iterations += 1
        now_ps = iteration.end_ps
        outputs: list[Output] = []
        finished = False
        for request, _ in iteration.scheduled:
            if self._requests.get(request.request_id) is not request:
                continue
            if request.computed_tokens < request.known_tokens:
                continue
            request.generated_tokens += 1
            self.counters.generated_tokens += 1
            if request.first_token_ps is None:
                request.first_token_ps = now_ps
                self.counters.prompt_tokens += request.prompt_tokens
            done = request.generated_tokens >= request.output_tokens
            if done:
                finished = True
                self._finish(request, now_ps)
            outputs.append(Output(request, 1, done))
        if finished:
            self._running = [request for request in self._running if request.finished_ps is None]
        return outputs

    def _schedule_running(self, plan: _Plan) -> None:
        """Running requests in order, each its next token or chunk; who finds no block preempts from the end."""
        index = 0
        while index < len(self._running) and plan.budget > 0:
            request = self._running[index]
            tokens = min(request.known_tokens - request.computed_tokens, plan.budget)
            if not self._make_room(request, tokens, plan):
                break
            self._compute(request, tokens)
            plan.scheduled.append((request, tokens))
            plan.budget -= tokens
            # Preempting by priority may have removed a request before this one.
            index = self._running.index(request, max(0, index - 1)) + 1 if plan.preempted else index + 1

    def _make_room(self, request: EngineRequest, tokens: int, plan: _Plan) -> bool:
        """Blocks for its next tokens, if need be by preempting others. False: it was preempted itself."""
        more = self._blocks(request.computed_tokens + tokens) - len(request.blocks)
        while more > 0 and not self.pool.extend(request.blocks, more):
            victim = self._victim()
            if victim is request and self._reclaim(request):
                continue
            self._preempt(victim, plan)
            if victim is request:
                return False
        return True

    def _victim(self) -> EngineRequest:
        if self.options.scheduling is Scheduling.PRIORITY:
            return max(self._running, key=lambda request: (request.priority, request.arrived_ps))
        return self._running[-1]

    def _preempt(self, victim: EngineRequest, plan: _Plan) -> None:
        """By recompute: its blocks go, its tokens stay, and it waits at the front."""
        self._running.remove(victim)
        self.pool.free(victim.blocks)
        victim.computed_tokens = 0
        victim.preemptions += 1
        self.counters.preemptions += 1
        self._waiting.appendleft(victim)
        plan.preempted = True
        for position, (request, tokens) in enumerate(plan.scheduled):
            if request is victim:
                del plan.scheduled[position]
                plan.budget += tokens
                break

    def _admit(self, plan: _Plan, now_ps: int) -> None:
        """Waiting requests in order, while sequences, budget and blocks last."""
        while self._waiting and plan.budget > 0 and len(self._running) < self.max_sequences:
            request = self._waiting.head()
            pull = request.pull
            if pull is not None and request.preemptions == 0:
                if self._start_pull(request, pull, now_ps):
                    self._waiting.popleft()
                    continue
                tokens = 0
            else:
                tokens = self._admit_one(request, plan.budget)
            if tokens == 0:
                if self._running or not self._reclaim(request):
                    break
                continue
            self._waiting.popleft()
            self._running.append(request)
            if request.scheduled_ps is None:
                request.scheduled_ps = now_ps
            plan.scheduled.append((request, tokens))
            plan.budget -= tokens

    def _reclaim(self, head: EngineRequest) -> bool:
        """Take the blocks of a waiting request whose KV was pulled, rather than stop the only ones that run."""
        holder = next((r for r in self._waiting.backwards() if r is not head and len(r.blocks)), None)
        if holder is None:
            return False
        self.pool.free(holder.blocks)
        holder.computed_tokens = 0
        holder.preemptions += 1
        self.counters.preemptions += 1
        return True

    def _admit_one(self, request: EngineRequest, budget: int) -> int:
        """Start a waiting request from what is cached. Returns the tokens it computes; 0: no blocks."""
        if len(request.blocks):  # its KV was pulled
            tokens = min(request.known_tokens - request.computed_tokens, budget)
            more = self._blocks(request.computed_tokens + tokens) - len(request.blocks)
            if more > 0 and not self.pool.extend(request.blocks, more):
                return 0
            self._compute(request, tokens)
            return tokens
        cached = self._cached_prefix(request)
        have = len(cached) * self.block_size
        tokens = min(request.known_tokens - have, budget)
        if not self.pool.admit(request.blocks, cached, self._blocks(have + tokens) - len(cached)):
            return 0
        self._count_prefix(request, have)
        request.computed_tokens = have
        self._compute(request, tokens)
        return tokens

    def _cached_prefix(self, request: EngineRequest) -> list[int]:
        if not self.options.prefix_caching or request.block_hash is None:
            return []
        # At least one token is computed, for its logits.
        return self.pool.match(request.block_hash, (request.known_tokens - 1) // self.block_size)

    def _count_prefix(self, request: EngineRequest, hit_tokens: int) -> None:
        if self.options.prefix_caching and request.preemptions == 0:
            self.counters.prefix_queries += request.known_tokens
            self.counters.prefix_hits += hit_tokens
            request.cached_tokens = hit_tokens

    def _compute(self, request: EngineRequest, tokens: int) -> None:
        request.computed_tokens += tokens
        if self.options.prefix_caching and request.block_hash is not None:
            full = request.computed_tokens // self.block_size
            if full > len(request.blocks.hashes):
                self.pool.fill(request.blocks, full, request.block_hash)

    def _price(self, plan: _Plan, now_ps: int) -> Iteration:
        prefill_tokens = attention_x2 = decode_sequences = context_tokens = 0
        for request, tokens in plan.scheduled:
            if tokens == 1 and request.generated_tokens:
                decode_sequences += 1
                context_tokens += request.computed_tokens
            else:
                prefill_tokens += tokens
                before = request.computed_tokens - tokens
                attention_x2 += tokens * (2 * before + tokens)
        duration_ps = self.profile.cost.iteration_ps(
            prefill_tokens, attention_x2, decode_sequences, context_tokens
        )
        return Iteration(now_ps, now_ps + duration_ps, plan.scheduled, prefill_tokens, decode_sequences)

    # --- KV from and for other instances

    def _start_pull(self, request: EngineRequest, pull: KvPull, now_ps: int) -> bool:
        cached = self._cached_prefix(request)
        tokens = min(pull.tokens, request.prompt_tokens)
        have = min(len(cached), tokens // self.block_size)
        if not self.pool.admit(request.blocks, cached[:have], self._blocks(tokens) - have):
            return False
        have *= self.block_size
        self._count_prefix(request, have)
        share = (tokens - have) / tokens if tokens else 0.0
        self.counters.pulled_tokens += tokens - have
        self._arriving.append(_Arriving(request, now_ps + round(pull.duration_ps * share)))
        return True

    def _receive(self, now_ps: int) -> None:
        arrived = [arriving.request for arriving in self._arriving if arriving.at_ps <= now_ps]
        if not arrived:
            return
        self._arriving = [arriving for arriving in self._arriving if arriving.at_ps > now_ps]
        for request in reversed(arrived):
            if request.pull is not None:
                self._compute(request, min(request.pull.tokens, request.prompt_tokens - 1))
                request.pull = None
            self._waiting.appendleft(request)

    def _finish(self, request: EngineRequest, now_ps: int) -> None:
        request.finished_ps = now_ps
        del self._requests[request.request_id]
        if request.hold_kv:
            expires_ps = now_ps + self.options.lease_ps
            self._held[request.request_id] = _Held(request, request.computed_tokens, expires_ps)
        else:
            self.pool.free(request.blocks)

    def _expire(self, now_ps: int) -> None:
        for request_id in [name for name, held in self._held.items() if held.expires_ps <= now_ps]:
            self.release_kv(request_id)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_size)
