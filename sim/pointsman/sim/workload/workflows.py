"""Staged workflows with deadlines, after the agentic text-to-SQL of HexGen-Flow (Peng et al. 2025).

A question goes through four stages: linking the schema, candidates side by side, correcting them one try after the other
(none to ten), and judging side by side. The paper gives the stages and their fan-outs; lengths are assumed:
log-normal with a deviation of `SIGMA` around the means below. All calls of a question begin with its database's
schema, which questions on the same database share.

A stage's share of the deadline is its expected time by that of all stages from it on, where an output token counts as much as
`TOKENS_PER_OUTPUT` prompt tokens; corrections count as often as they happen on average.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from random import Random

from pointsman.sim.workload.agents import geometric, log_normal
from pointsman.sim.workload.program import Call, Program
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest, begun

SIGMA = 0.5
TOKENS_PER_OUTPUT = 50
SCHEMA_BLOCKS = 3
DATABASES = 20
MOST_CORRECTIONS = 10


@dataclass(frozen=True, slots=True)
class Stage:
    """Means of its calls; prompt tokens beyond the schema."""

    name: str
    prompt_tokens: float
    output_tokens: float

    @property
    def work(self) -> float:
        """Expected time of one call, in prompt tokens."""
        return SCHEMA_BLOCKS * HASH_BLOCK_TOKENS + self.prompt_tokens + TOKENS_PER_OUTPUT * self.output_tokens


LINKING = Stage("linking", 700, 150)
CANDIDATES = Stage("candidates", 500, 350)
CORRECTION = Stage("correction", 900, 250)
JUDGING = Stage("judging", 1200, 120)
CANDIDATE_CALLS = (3, 8)
JUDGING_CALLS = (2, 5)
MEAN_CORRECTIONS = 2.0


@dataclass(frozen=True, slots=True)
class StagedWorkflows:
    """`programs` questions, a Poisson process."""

    name: str
    programs: int
    programs_per_s: float
    deadline_s: float = inf
    """After a question's arrival."""
    tool_s: float = 0.0
    """Mean time that a query on the database takes before a correction, exponential."""
    seed: int = 0

    def __iter__(self) -> Iterator[TraceRequest]:
        rng = Random(self.seed)
        arrival_s, next_id = 0.0, DATABASES * SCHEMA_BLOCKS
        for number in range(self.programs):
            draft = _Draft(rng, self.tool_s, next_id)
            program = Program(draft.calls(), self.deadline_s)
            next_id = draft.next_id
            yield begun(program, arrival_s, f"{self.name}-{number}", self.name)
            arrival_s += rng.expovariate(self.programs_per_s)

    def request_count(self) -> int:
        return sum(request.calls for request in self)


class _Draft:
    """One question being drawn."""

    def __init__(self, rng: Random, tool_s: float, next_id: int) -> None:
        self.rng = rng
        self.tool_s = tool_s
        self.next_id = next_id
        database = rng.randrange(DATABASES)
        self.schema = tuple(range(database * SCHEMA_BLOCKS, (database + 1) * SCHEMA_BLOCKS))

    def calls(self) -> tuple[Call, ...]:
        rng = self.rng
        corrections = min(MOST_CORRECTIONS, geometric(rng, MEAN_CORRECTIONS + 1) - 1)
        left = [LINKING.work, CANDIDATES.work, MEAN_CORRECTIONS * CORRECTION.work, JUDGING.work]
        calls = [self._call(LINKING, (), left)]
        last = self._side_by_side(calls, CANDIDATES, CANDIDATE_CALLS, (0,), left[1:])
        for done in range(corrections):
            # Nobody knows how many will follow; at least the one that is made.
            expected = max(1.0, MEAN_CORRECTIONS - done) * CORRECTION.work
            query_s = rng.expovariate(1.0 / self.tool_s) if self.tool_s else 0.0
            share = CORRECTION.work / (expected + JUDGING.work)
            calls.append(self._make(CORRECTION, last, share, query_s))
            last = (len(calls) - 1,)
        self._side_by_side(calls, JUDGING, JUDGING_CALLS, last, left[3:])
        return tuple(calls)

    def _side_by_side(
        self,
        calls: list[Call],
        stage: Stage,
        fan_out: tuple[int, int],
        after: tuple[int, ...],
        left: Sequence[float],
    ) -> tuple[int, ...]:
        first = len(calls)
        calls += [self._call(stage, after, left) for _ in range(self.rng.randint(*fan_out))]
        return tuple(range(first, len(calls)))

    def _call(self, stage: Stage, after: tuple[int, ...], left: Sequence[float]) -> Call:
        return self._make(stage, after, left[0] / sum(left), 0.0)

    def _make(self, stage: Stage, after: tuple[int, ...], share: float, tool_s: float) -> Call:
        own = log_normal(self.rng, stage.prompt_tokens, SIGMA)
        blocks = -(-own // HASH_BLOCK_TOKENS)
        hash_ids = self.schema + tuple(range(self.next_id, self.next_id + blocks))
        self.next_id += blocks
        prompt = SCHEMA_BLOCKS * HASH_BLOCK_TOKENS + own
        return Call(prompt, log_normal(self.rng, stage.output_tokens, SIGMA), after, tool_s, hash_ids, share)
