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
        "_finish",
        "_hashed",
        "_held",
        "_members",
        "_phases",
        "clock",
        "context_tokens",
    )

    def __init__(self, block_size: int) -> None:
        self.clock = DecodeClock()
        self.context_tokens = 0
        """Computed tokens of all members."""
        self._block_size = block_size
        self._members: dict[EngineRequest, None] = {}
        # Members by the iteration, modulo block size, in which they need a block; each in the order they joined.
        self._phases: list[dict[EngineRequest, None]] = [{} for _ in range(block_size)]
        # (iteration after which it ends, arrival number, joined, request): stale once the member left or was held.
        self._finish: list[tuple[int, int, int, EngineRequest]] = []
        self._hashed = 0
        self._held: Collection[EngineRequest] = ()

    def __len__(self) -> int:
        return len(self._members)

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
        self._members[request] = None
        self.context_tokens += request.own_computed
        self._hashed += request.block_hash is not None
        self._phases[self._phase(request)][request] = None
        self._await_end(request)

    def leave(self, request: EngineRequest) -> None:
        """The request keeps what it has computed and generated."""
        computed, generated = request.computed_tokens, request.generated_tokens
        del self._members[request]
        del self._phases[self._phase(request)][request]
        self.context_tokens -= computed
        self._hashed -= request.block_hash is not None
        request.own_computed, request.own_generated, request.clock = computed, generated, None
        request.blocks = -(-computed // self._block_size)

    def begin(self, iterations: int = 1) -> None:
        """Every member computes a token in each of the iterations. Their blocks are the caller's business."""
        self.clock.begun += iterations
        self.context_tokens += iterations * len(self._members)

    def hold_back(self, members: Collection[EngineRequest]) -> None:
        """Take these out of the iteration that just began: they stand still for its length."""
        self._held = members
        self.context_tokens -= len(members)
        for request in members:
            request.own_computed -= 1
        # All phases are filled anew, to keep the order of joining in each.
        for phase in self._phases:
            phase.clear()
        for request in self._members:
            self._phases[self._phase(request)][request] = None

    def end(self) -> list[EngineRequest]:
        """The iterations begun are over. Returns who has all its tokens, still members, in order of arrival."""
        self.clock.ended = self.clock.begun
        if self._held:
            for request in self._held:
                request.own_generated -= request in self._members
            self._held = ()
            self._finish.clear()
            for request in self._members:
                self._await_end(request)
        done = []
        while self._finish and self._finish[0][0] <= self.clock.ended:
            _, _, joined, request = heapq.heappop(self._finish)
            if request.clock is not None and request.joined == joined:
                done.append(request)
        return done

    def iterations_left(self) -> int:
        """Iterations until the first member ends, counted from the last one that ended. Of an empty batch: 0."""
        while self._finish:
            after, _, joined, request = self._finish[0]
            if request.clock is not None and request.joined == joined:
                return after - self.clock.ended
            heapq.heappop(self._finish)
        return 0

    def needing_blocks(self) -> Collection[EngineRequest]:
        """Members that need a block in the next iteration to begin."""
        return self._phases[(self.clock.begun + 1) % self._block_size].keys()

    def blocks_needed(self, iterations: int) -> int:
        """Blocks that the next iterations to begin need."""
        rounds, rest = divmod(iterations, self._block_size)
        first = self.clock.begun + 1
        return rounds * len(self._members) + sum(
            len(self._phases[(first + offset) % self._block_size]) for offset in range(rest)
        )

    def iterations_within(self, blocks: int, limit: int) -> int:
        """How many of the next iterations, at most `limit`, can begin with so many blocks available."""
        members = len(self._members)
        rounds = min(blocks // members, limit // self._block_size)
        blocks -= rounds * members
        iterations = rounds * self._block_size
        while iterations < limit:
            blocks -= len(self._phases[(self.clock.begun + 1 + iterations) % self._block_size])
            if blocks < 0:
                break
            iterations += 1
        return iterations

    def filling(self, iteration: int) -> Iterator[EngineRequest]:
        """Cacheable members that fill a block in the iteration of that number."""
        # Who fills a block in one iteration needs a new one in the next.
        phase = self._phases[(iteration + 1) % self._block_size]
        return (request for request in phase if request.block_hash is not None)

    def _await_end(self, request: EngineRequest) -> None:
        after = request.joined + request.output_tokens - request.own_generated
        heapq.heappush(self._finish, (after, request.number, request.joined, request))

    def _phase(self, request: EngineRequest) -> int:
        return (request.joined + 1 - request.own_computed) % self._block_size
