"""Agent programs with the call statistics that Autellix publishes (Luo et al. 2025): chats, tool chains, tree searches.

The paper gives means: calls per program, and prefill and decode tokens per call. What is assumed here beyond them:

* calls per program are geometric, tokens per call log-normal with a deviation of `SIGMA`;
* prefill tokens are what is new in a call: its prompt is the prompts and answers on the way to it, and then these;
* a chat and a tool chain are chains. A tree search goes on in rounds of `WIDTH` calls side by side, which wait for all of
  the round before; each grows from a random call of that round, or from the root when it is `DEPTH` deep.

Programs arrive as a Poisson process. Tools take no time unless told: the paper counts what its engine can change.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from pointsman.sim.workload.program import Call, Program
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest, begun

SIGMA = 1.0
"""Standard deviation of the logarithm of lengths: the mean is 1.65 times the median."""
WIDTH = 5
DEPTH = 8
MOST_TOKENS = 16_384
"""Of one call, new or generated: the tail of a log-normal law has no end."""


class Shape(Enum):
    """How the calls of a program depend on each other."""

    CHAIN = "chain"
    TREE_SEARCH = "tree search"


@dataclass(frozen=True, slots=True)
class AgentKind:
    """Means of a kind of programs."""

    name: str
    shape: Shape
    calls: float
    prefill_tokens: float
    decode_tokens: float
    programs_per_s: float
    """Unless told otherwise."""


SHAREGPT = AgentKind("agents-sharegpt", Shape.CHAIN, 6.66, 256, 277, 1.0)
BFCL = AgentKind("agents-bfcl", Shape.CHAIN, 10.75, 735, 34, 1.0)
LATS = AgentKind("agents-lats", Shape.TREE_SEARCH, 159.7, 467, 73, 0.1)
AGENT_KINDS = (SHAREGPT, BFCL, LATS)


@dataclass(frozen=True, slots=True)
class AgentPrograms:
    """`programs` programs of one kind."""

    kind: AgentKind
    programs: int
    programs_per_s: float
    tool_s: float = 0.0
    """Mean time between the end of a call and the next one's arrival, exponential."""
    seed: int = 0

    def __iter__(self) -> Iterator[TraceRequest]:
        rng = Random(self.seed)
        arrival_s, next_id = 0.0, 0
        for number in range(self.programs):
            draft = _Draft(self.kind, self.tool_s, rng, next_id)
            program = draft.program()
            next_id = draft.next_id
            yield begun(program, arrival_s, f"{self.kind.name}-{number}", self.kind.name)
            arrival_s += rng.expovariate(self.programs_per_s)

    def request_count(self) -> int:
        return sum(request.calls for request in self)


class _Draft:
    """One program being drawn."""

    def __init__(self, kind: AgentKind, tool_s: float, rng: Random, next_id: int) -> None:
        self.kind = kind
        self.tool_s = tool_s
        self.rng = rng
        self.next_id = next_id
        """Of prefix blocks, among all programs."""
        self.calls: list[Call] = []
        self.depths: list[int] = []

    def program(self) -> Program:
        wanted = geometric(self.rng, self.kind.calls)
        if self.kind.shape is Shape.CHAIN:
            for place in range(wanted):
                self._add(place - 1 if place else None, (place - 1,) if place else ())
        else:
            self._search(wanted)
        return Program(tuple(self.calls))

    def _search(self, wanted: int) -> None:
        self._add(None, ())
        last: tuple[int, ...] = (0,)
        while len(self.calls) < wanted:
            first = len(self.calls)
            for _ in range(min(WIDTH, wanted - first)):
                parent = self.rng.choice(last)
                self._add(parent if self.depths[parent] < DEPTH else 0, last)
            last = tuple(range(first, len(self.calls)))

    def _add(self, parent: int | None, after: tuple[int, ...]) -> None:
        before = 0
        shared: tuple[int, ...] = ()
        if parent is not None:
            former = self.calls[parent]
            before = former.prompt_tokens + former.output_tokens
            shared = former.hash_ids[: former.prompt_tokens // HASH_BLOCK_TOKENS]
        prompt = before + log_normal(self.rng, self.kind.prefill_tokens)
        blocks = -(-prompt // HASH_BLOCK_TOKENS) - len(shared)
        hash_ids = shared + tuple(range(self.next_id, self.next_id + blocks))
        self.next_id += blocks
        tool_s = self.rng.expovariate(1.0 / self.tool_s) if self.tool_s and after else 0.0
        output = log_normal(self.rng, self.kind.decode_tokens)
        self.calls.append(Call(prompt, output, after, tool_s, hash_ids))
        self.depths.append(0 if parent is None else self.depths[parent] + 1)


def geometric(rng: Random, mean: float) -> int:
    """From 1 on, with this mean."""
    return 1 if mean <= 1 else 1 + int(math.log(1.0 - rng.random()) / math.log(1.0 - 1.0 / mean))


def log_normal(rng: Random, mean: float, sigma: float = SIGMA) -> int:
    """Tokens, from 1 on, with about this mean."""
    drawn = rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
    return min(MOST_TOKENS, max(1, round(drawn)))
