"""Who computes what in an iteration, as vLLM V1's scheduler (0.32) decides it.

Running requests come first, in the order in which they came to run: decoding ones a token each, the one whose
prompt is not finished (there is never more than one) a chunk of what is left of the token budget. Who finds no free
block preempts by recompute: the last to come, or under priorities the least important. If nobody was preempted,
waiting requests are admitted in order while budget, sequences and blocks last; one is admitted only if all its
tokens would fit now, though its blocks are taken chunk by chunk.
"""

from collections.abc import Callable

from pointsman.sim.engine.batch import DecodeBatch
from pointsman.sim.engine.blocks import BlockPool, CachedBlock
from pointsman.sim.engine.options import EngineCounters, EngineOptions, Scheduling
from pointsman.sim.engine.queue import WaitingQueue
from pointsman.sim.engine.request import EngineRequest, KvPull
from pointsman.sim.engine.transfers import Arrivals


class Plan:
    """An iteration: every member of the decode batch but those held back, and chunks of prompts."""

    __slots__ = ("budget", "chunks", "decoding", "halted", "held_back", "now_ps", "preempted", "unserved")

    def __init__(self, now_ps: int, budget: int) -> None:
        self.now_ps = now_ps
        self.budget = budget
        self.chunks: list[tuple[EngineRequest, int]] = []
        self.held_back: dict[EngineRequest, None] = {}
        """Members of the batch that are not scheduled (yet)."""
        self.unserved: set[EngineRequest] = set()
        """Members that need a block for this iteration and have not got it."""
        self.preempted = False
        self.halted = False
        """A running request preempted itself: nobody after it is scheduled."""
        self.decoding = 0

    @property
    def idle(self) -> bool:
        """Nothing is computed."""
        return not self.chunks and not self.decoding


class Scheduler:
    """Holds every request that waits or runs, and the blocks."""

    def __init__(self, pool: BlockPool, block_size: int, max_sequences: int, options: EngineOptions) -> None:
        self.pool = pool
        self.batch = DecodeBatch(block_size)
        self.counters = EngineCounters()
        self.unready = 0
        """Requests that wait, whose KV is on its way, or whose prompt is not computed to its end."""
        self.joining: list[EngineRequest] = []
        """Those that get their first token (or their first since a preemption) from the iteration under way."""
        self.on_cached: Callable[[EngineRequest, int, int], None] | None = None
        """Told of a request's blocks, first and behind the last, that others can find from now on."""
        self._block_size = block_size
        self._max_sequences = max_sequences
        self._chunk_tokens = options.chunk_tokens
        self._prefix_caching = options.prefix_caching
        self._by_priority = options.scheduling is Scheduling.PRIORITY
        self._waiting = WaitingQueue(by_priority=self._by_priority)
        self._arrivals = Arrivals(by_priority=self._by_priority)
        self._prefilling: EngineRequest | None = None

    @property
    def running(self) -> int:
        return self.batch.size + len(self.joining) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._arrivals)

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self._block_size)

    def next_arrival_ps(self) -> int | None:
        """When KV comes that somebody waits for."""
        return self._arrivals.next_ps()

    def enqueue(self, request: EngineRequest) -> None:
        self._waiting.append(request)
        self.unready += 1

    def remove(self, request: EngineRequest) -> None:
        """Take a request out wherever it is, and free its blocks."""
        if request in self.batch:
            self.batch.leave(request)
        elif request in self.joining:
            self.joining.remove(request)
        else:
            self.unready -= 1
            if request is self._prefilling:
                self._prefilling = None
            elif not self._waiting.remove(request):
                self._arrivals.remove(request)
        self.free(request)

    def free(self, request: EngineRequest) -> None:
        """Give back the blocks of a request that is in no queue and in no batch."""
        if request.block_hash is None:  # nobody can find any of them
            self.pool.free([], request.blocks)
        else:
            self.pool.free(request.cached_blocks, request.plain_blocks, stale=not request.caches_answer)
            request.cached_blocks = []
        request.blocks = 0

    def plan(self, now_ps: int) -> Plan:
        plan = Plan(now_ps, self._chunk_tokens)
        self._arrivals.land(now_ps)
        if self.batch.size:
            self._decode(plan)
        if self._prefilling is not None and plan.budget > 0 and not plan.halted:
            self._continue(self._prefilling, plan)
        if self.unready > (self._prefilling is not None) and not plan.preempted:
            self._admit(plan)
        plan.decoding = self.batch.size - len(plan.held_back)
        return plan

    def lookup_waits(self) -> bool:
        """Whether a request stands at the head of the queue that a newly cached block might let in."""
        if not len(self._waiting) or not self._prefix_caching or self.running >= self._max_sequences:
            return False
        return self._waiting.head().block_hash is not None

    def fill_decoded(self, first: int, last: int) -> None:
        """Let others find the blocks that decoding filled in the iterations of these numbers."""
        if self._prefix_caching:
            for request in self.batch.filling(first, last):
                # One at a time: which of two equal blocks is the older decides which is found.
                self._fill(request, len(request.cached_blocks) + 1)

    # --- running requests

    def _decode(self, plan: Plan) -> None:
        batch, pool = self.batch, self.pool
        needed = batch.blocks_needed(1)
        if batch.size <= plan.budget and needed <= pool.available:
            pool.take(needed)
            batch.begin()
            plan.budget -= batch.size
        else:
            self._decode_one_by_one(plan)
        if batch.hashed:
            self.fill_decoded(batch.clock.begun, batch.clock.begun)

    def _decode_one_by_one(self, plan: Plan) -> None:
        """The rare iteration in which blocks or budget don't last for all."""
        batch = self.batch
        plan.held_back = dict.fromkeys(batch)
        plan.unserved = set(batch.needing_blocks())
        members = list(batch)
        batch.begin()
        for request in members:
            if request.clock is None:  # preempted by one before it
                continue
            if plan.budget == 0:
                break
            if request in plan.unserved and not self._make_room(request, 1, plan):
                plan.halted = True
                break
            plan.unserved.discard(request)
            del plan.held_back[request]
            plan.budget -= 1
        plan.unserved.clear()
        if plan.held_back:
            batch.hold_back(list(plan.held_back))

    def _continue(self, request: EngineRequest, plan: Plan) -> None:
        tokens = min(request.known_tokens - request.own_computed, plan.budget)
        more = self.blocks_of(request.own_computed + tokens) - request.blocks
        if more > 0 and not self._make_room(request, more, plan):
            return
        self._prefilling = None
        self._compute(request, tokens, plan)

    def _make_room(self, request: EngineRequest, blocks: int, plan: Plan) -> bool:
        """Take blocks for a running request, preempting while there are too few. False: it came to itself."""
        while blocks > self.pool.available:
            victim = self._victim()
            plan.preempted = True
            if victim in plan.held_back:
                del plan.held_back[victim]
            elif victim in self.batch:
                plan.budget += 1  # its token of this iteration was planned already
            self._preempt(victim, plan.now_ps, unserved=victim in plan.unserved)
            if victim is request:
                return False
        self.pool.take(blocks)
        return True

    def _victim(self) -> EngineRequest:
        if not self._by_priority:
            return self._prefilling or self.batch.last()
        running = list(self.batch)
        if self._prefilling is not None:
            running.append(self._prefilling)
        # As in vLLM, the first of equals.
        return max(running, key=lambda request: (request.priority, request.arrived_ps))

    def _preempt(self, victim: EngineRequest, now_ps: int, *, unserved: bool) -> None:
        """By recompute: its blocks go, its tokens stay, and it waits at the front."""
        if victim is self._prefilling:
            self._prefilling = None
        else:
            self.unready += 1
            self.batch.leave(victim)
            victim.blocks -= unserved  # `leave` counts this iteration's block
        self.free(victim)
        victim.own_computed = 0
        victim.preemptions += 1
        victim.preempted_ps = now_ps
        self.counters.preemptions += 1
        self._waiting.appendleft(victim)

    # --- waiting requests

    def _admit(self, plan: Plan) -> None:
        while plan.budget > 0 and self.running < self._max_sequences:
            pulled = self._arrivals.head()
            if pulled is not None:
                if not self._start_pulled(pulled, plan):
                    return
                self._arrivals.pop()
            elif len(self._waiting):
                if not self._start(self._waiting.head(), plan):
                    return
            else:
                return

    def _start(self, request: EngineRequest, plan: Plan) -> bool:
        """Let the head of the queue run from what is cached, or wait for its KV. False: too few blocks."""
        cached: list[CachedBlock] = []
        known = request.known_tokens
        if self._prefix_caching and request.block_hash is not None:
            # At least one token is computed, for its logits.
            whole = (known - 1) // (self._block_size * request.hash_blocks)
            cached = self.pool.match(request.block_hash, min(whole, request.hashes))
        shared = len(cached) * request.hash_blocks
        have = shared * self._block_size
        pull = request.pull if request.preemptions == 0 else None
        pulled = max(0, min(pull.tokens, request.prompt_tokens) - have) if pull is not None else 0
        idle = sum([block.blocks for block in cached if block.references == 0])
        available = self.pool.available - idle
        # KV that waits can't be preempted: what it still needs must be there when all that runs has ended.
        reserved = self._reserved() if pulled else 0
        if self.blocks_of(known) - shared > available - reserved:
            return False
        tokens = pulled or min(known - have, plan.budget)
        more = self.blocks_of(have + tokens) - shared
        self._waiting.popleft()
        self.pool.share(cached)
        self.pool.take(more)
        request.cached_blocks = cached
        request.own_computed = have
        request.blocks = shared + more
        if request.preemptions == 0:
            self._count_lookup(request, have)
        if pull is not None and pulled:
            self._expect(request, pull, pulled, plan.now_ps)
        else:
            request.pull = None
            self._run(request, tokens, plan)
        return True

    def _count_lookup(self, request: EngineRequest, hit_tokens: int) -> None:
        if self._prefix_caching:
            self.counters.prefix_queries += request.prompt_tokens
            self.counters.prefix_hits += hit_tokens
            request.cached_tokens = hit_tokens

    def _expect(self, request: EngineRequest, pull: KvPull, tokens: int, now_ps: int) -> None:
        """Blocks are taken; the KV that is not cached here takes its share of the whole pull's time."""
        request.own_computed += tokens
        self.counters.pulled_tokens += tokens
        if pull.arrive_ps is not None:
            at_ps = pull.arrive_ps(now_ps, tokens)
        else:
            at_ps = now_ps + pull.duration_ps * tokens // pull.tokens
        self._arrivals.expect(request, at_ps)

    def _start_pulled(self, request: EngineRequest, plan: Plan) -> bool:
        """Let a request run whose KV has come."""
        if request.pull is not None:
            request.pull = None
            self._fill(request)
            # The last token is computed again, for its logits.
            request.own_computed = min(request.own_computed, request.known_tokens - 1)
        if self.blocks_of(request.known_tokens) - request.blocks > self.pool.available:
            return False
        tokens = min(request.known_tokens - request.own_computed, plan.budget)
        more = self.blocks_of(request.own_computed + tokens) - request.blocks
        if more > 0:
            self.pool.take(more)
        self._run(request, tokens, plan)
        return True

    def _reserved(self) -> int:
        """Blocks that those who have begun still need for the tokens they have."""
        begun = [*self._arrivals]
        if self._prefilling is not None:
            begun.append(self._prefilling)
        return sum(self.blocks_of(request.known_tokens) - request.blocks for request in begun)

    def _run(self, request: EngineRequest, tokens: int, plan: Plan) -> None:
        if request.scheduled_ps is None:
            request.scheduled_ps = plan.now_ps
        self._compute(request, tokens, plan)

    def _compute(self, request: EngineRequest, tokens: int, plan: Plan) -> None:
        """A chunk whose blocks are taken."""
        request.own_computed += tokens
        request.blocks = max(request.blocks, self.blocks_of(request.own_computed))
        self._fill(request)
        plan.chunks.append((request, tokens))
        plan.budget -= tokens
        if request.own_computed == request.known_tokens:
            self.joining.append(request)
            self.unready -= 1
        else:
            self._prefilling = request

    def _fill(self, request: EngineRequest, at_most: int | None = None) -> None:
        """Let others find its blocks that are full now, or the first `at_most` of them."""
        if request.block_hash is None or not self._prefix_caching:
            return
        first = len(request.cached_blocks)
        full = request.computed_tokens // (self._block_size * request.hash_blocks)
        full = min(full, request.hashes)
        if at_most is not None:
            full = min(full, at_most)
        if first < full:
            self.pool.remember(request.cached_blocks, request.block_hash, full, request.hash_blocks)
            if self.on_cached is not None:
                self.on_cached(request, first, full)
