"""The sequences of an engine that decode: one token each per iteration, none of them touched one by one.

What an iteration does to all of them (a token computed, a token generated, a block needed where one is full) is
counted once: requests read their progress off a common clock, and who needs a block in which iteration follows from
a phase, since each needs one every `block_size` iterations. So n iterations cost what one costs.
"""

import heapq
from collections.abc import Collection, Iterator

from pointsman.sim.engine.request import DecodeClock, EngineRequest


class DecodeBatch:
    """Decoding requests in the order in which they came to run. A request joins when its first token is there."""

    __slots__ = (
        "_block_size",
        "_counts",
        "_finish",
        "_hashed",
        "_held",
        "_joins",
        "_members",
        "_phases",
        "clock",
        "context_tokens",
        "size",
    )

    def __init__(self, block_size: int) -> None:
        self.clock = DecodeClock()
        self.context_tokens = 0
        """Computed tokens of all members."""
        self.size = 0
        self._block_size = block_size
        self._members: dict[EngineRequest, None] = {}
        # Members whose blocks can be found, by the iteration, modulo block size, in which they need a block; each in the
        # order they joined.
        self._phases: list[dict[EngineRequest, None]] = [{} for _ in range(block_size)]
        # How many members of any kind each phase has, twice over, so that a slice may go round the end.
        self._counts = [0] * (2 * block_size)
        # (iteration after which it ends, place, request): stale once the member has left.
        self._finish: list[tuple[int, int, EngineRequest]] = []
        self._hashed = 0
        self._joins = 0
        self._held: Collection[EngineRequest] = ()

    def __iter__(self) -> Iterator[EngineRequest]:
        return iter(self._members)

    def __contains__(self, request: EngineRequest) -> bool:
        return request in self._members

    @property
    def hashed(self) -> bool:
        """Whether any member's blocks can be cached."""
        return self._hashed > 0

    def last(self) -> EngineRequest:
        return next(reversed(self._members))

    def join(self, request: EngineRequest) -> None:
        """Between iterations."""
        request.clock = self.clock
        request.joined = self.clock.begun
        request.place = self._joins
        self._joins += 1
        self._members[request] = None
        self.size += 1
        self.context_tokens += request.own_computed
        self._enter_phase(request)
        self._await_end(request)

    def leave(self, request: EngineRequest) -> None:
        """The request keeps what it has computed and generated."""
        clock, joined = self.clock, request.joined
        phase = self._phase(request)
        computed = request.own_computed + clock.begun - joined
        del self._members[request]
        if request.caches_answer:
            del self._phases[phase][request]
            self._hashed -= 1
        self._counts[phase] -= 1
        self._counts[phase + self._block_size] -= 1
        self.size -= 1
        self.context_tokens -= computed
        request.own_computed = computed
        request.own_generated += clock.ended - joined
        request.clock, request.place = None, -1
        request.blocks = -(-computed // self._block_size)

    def begin(self, iterations: int = 1) -> None:
        """Every member computes a token in each of the iterations. Their blocks are the caller's business."""
        self.clock.begun += iterations
        self.context_tokens += iterations * self.size

    def hold_back(self, members: Collection[EngineRequest]) -> None:
        """Take these out of the iteration that just began: they stand still for its length."""
        self._held = members
        self.context_tokens -= len(members)
        for request in members:
            request.own_computed -= 1
        # All phases are filled anew, to keep the order of joining in each.
        for phase in self._phases:
            phase.clear()
        self._hashed = 0
        self._counts = [0] * len(self._counts)
        for request in self._members:
            self._enter_phase(request)

    def end(self) -> list[EngineRequest]:
        """The iterations begun are over. Returns who has all its tokens, still members, in the order of joining."""
        clock, finish = self.clock, self._finish
        clock.ended = clock.begun
        if self._held:
            for request in self._held:
                request.own_generated -= request in self._members
            self._held = ()
            finish.clear()
            for request in self._members:
                self._await_end(request)
        done = []
        while finish and finish[0][0] <= clock.ended:
            _, place, request = heapq.heappop(finish)
            if request.place == place:
                done.append(request)
        return done

    def iterations_left(self) -> int:
        """Iterations until the first member ends, counted from the last one that ended. Of an empty batch: 0."""
        while self._finish:
            after, place, request = self._finish[0]
            if request.place == place:
                return after - self.clock.ended
            heapq.heappop(self._finish)
        return 0

    def needing_blocks(self) -> Collection[EngineRequest]:
        """Members that need a block in the next iteration to begin."""
        phase = (self.clock.begun + 1) % self._block_size
        return [request for request in self._members if self._phase(request) == phase]

    def blocks_needed(self, iterations: int) -> int:
        """Blocks that the next iterations to begin need."""
        counts = self._counts
        needed = iterations // self._block_size * self.size
        first = (self.clock.begun + 1) % self._block_size
        for phase in range(first, first + iterations % self._block_size):
            needed += counts[phase]
        return needed

    def iterations_within(self, blocks: int, limit: int) -> int:
        """How many of the next iterations, at most `limit`, can begin with so many blocks available."""
        if (limit // self._block_size + 1) * self.size <= blocks:
            return limit
        rounds = min(limit // self._block_size, blocks // self.size)
        iterations = rounds * self._block_size
        blocks -= rounds * self.size
        counts = self._counts
        first = (self.clock.begun + 1) % self._block_size
        for phase in range(first, first + min(self._block_size, limit - iterations)):
            blocks -= counts[phase]
            if blocks < 0:
                break
            iterations += 1
        return iterations

    def filling(self, first: int, last: int) -> Iterator[EngineRequest]:
        """Cacheable members that fill a block in the iterations of these numbers, in their order."""
        # Who fills a block in one iteration needs a new one in the next.
        phases = [
            (iteration, phase)
            for iteration in range(first, min(last + 1, first + self._block_size))
            if (phase := self._phases[(iteration + 1) % self._block_size])
        ]
        for later in range(0, last + 1 - first, self._block_size):
            for iteration, phase in phases:
                if iteration + later > last:
                    return
                yield from phase

    def fills_next(self, limit: int) -> int | None:
        """In how many iterations from now, fewer than `limit`, a cacheable member fills a block. None: in none."""
        for ahead in range(1, min(limit, self._block_size + 1)):
            number = self.clock.begun + ahead
            if any(self.filling(number, number)):
                return ahead
        return None

    def _enter_phase(self, request: EngineRequest) -> None:
        phase = self._phase(request)
        self._counts[phase] += 1
        self._counts[phase + self._block_size] += 1
        if request.caches_answer:
            self._phases[phase][request] = None
            self._hashed += 1

    def _await_end(self, request: EngineRequest) -> None:
        after = request.joined + request.output_tokens - request.own_generated
        heapq.heappush(self._finish, (after, request.place, request))

    def _phase(self, request: EngineRequest) -> int:
        return (request.joined + 1 - request.own_computed) % self._block_size
