"""What both schedulers are given: requests with every token they will hold, and the limits they run under."""

import csv
import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pointsman.api.profile import load_profile
from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.core.units import to_ps
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest
from pointsman.sim.workload.scale import RateScaled

BLOCK_TOKENS = 16
LONGEST_TOKENS = 1024
"""Of a random life's requests."""
COST = IterationCost(t0_ps=1_000, tp_ps=10, ta_ps=0, tb_ps=5, tc_ps=0)
TOKENS = 1 << 31


@dataclass
class Asked:
    """One request. What it generates goes on where its prompt ends: `token` gives both."""

    name: str
    at: int
    """On the life's clock: the number of an iteration, or picoseconds."""
    prompt: int
    output: int
    token: Callable[[int], int]
    """The token at a position of prompt and answer."""
    priority: int = 0


@dataclass
class Life:
    """A workload and an engine."""

    name: str
    profile: EngineProfile
    budget: int
    sequences: int
    by_priority: bool
    caching: bool
    timed: bool
    """Whether requests come by the time that iterations take, not by their number."""
    longest_tokens: int
    asked: list[Asked] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        return self.profile.kv_capacity_tokens // BLOCK_TOKENS


def random_life(seed: int) -> Life:
    """Lengths, arrivals, shared prefixes, priorities, KV size, token budget and sequences drawn at random."""
    rng = random.Random(seed)
    blocks = rng.choice([20, 40, 120, 1000])
    budget = rng.choice([32, 100, 256, 2048])
    sequences = rng.choice([2, 8, 32])
    made = Life(
        name=f"random {seed}",
        profile=_profile(blocks),
        budget=budget,
        sequences=min(sequences, budget),
        by_priority=rng.random() < 0.3,
        caching=rng.random() < 0.7,
        timed=False,
        longest_tokens=LONGEST_TOKENS,
    )
    longest = min(900, blocks * BLOCK_TOKENS - 1)
    spread = rng.choice([1, 5, 40])
    at = 0
    for number in range(rng.randrange(5, 60)):
        at += rng.randrange(spread + 1)
        prompt = rng.randrange(1, longest * 2 // 3)
        output = rng.randrange(1, min(200, longest - prompt) + 1)
        # A few texts: the same request may come again, or go on where an earlier answer ended.
        text = rng.randrange(1000) if rng.random() < 0.7 else rng.randrange(3)
        token = _text(text, rng.choice([0, 0, 40, 64, 200]))
        made.asked.append(Asked(f"{number:04d}", at, prompt, output, token, rng.randrange(3)))
    return made


@dataclass(frozen=True)
class TraceCase:
    """A trace on one instance of a shipped profile."""

    trace: Path
    profile: str
    requests: int
    rate_scale: float
    budget: int
    kv_tokens: int | None = None
    """Instead of the profile's."""

    @property
    def name(self) -> str:
        room = f", {self.kv_tokens:,} tokens of KV" if self.kv_tokens else ""
        return f"{self.trace.name.split('.')[0]} x{self.rate_scale:g}{room}"


def trace_life(case: TraceCase) -> Life:
    """A trace's own arrivals, lengths and prefixes, in the time that iterations of the profile take.

    Requests that no instance of it could hold are left out. Raises OSError and ProfileError.
    """
    profile = load_profile(case.profile)
    capacity = (case.kv_tokens or profile.kv_capacity_tokens) // BLOCK_TOKENS * BLOCK_TOKENS
    fitting = (
        request
        for request in RateScaled(read_trace(case.trace), case.rate_scale)
        if request.prompt_tokens + request.output_tokens < capacity
    )
    asked = [
        Asked(
            f"{number:06d}",
            to_ps(request.arrival_s),
            request.prompt_tokens,
            request.output_tokens,
            _trace_text(number, request),
        )
        for number, request in enumerate(islice(fitting, case.requests))
    ]
    return Life(
        name=case.name,
        profile=_profile(capacity // BLOCK_TOKENS, profile.cost),
        budget=case.budget,
        sequences=profile.max_sequences,
        by_priority=False,
        caching=True,
        timed=True,
        longest_tokens=max(one.prompt + one.output for one in asked) + 1,
        asked=asked,
    )


def read_trace(path: Path) -> list[TraceRequest]:
    """A CSV trace. The project's own reader needs orjson, which vLLM's environment does not have. Raises OSError."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [
            TraceRequest(
                float(row["timestamp_s"]),
                int(row["prompt_tokens"]),
                int(row["output_tokens"]),
                tuple(map(int, row.get("hash_ids", "").split())),
            )
            for row in csv.DictReader(lines)
        ]


def hashes(asked: Asked) -> Callable[[int], int]:
    """The hash of a block is its tokens' and that of all before them."""
    chain: list[int] = []

    def block_hash(index: int) -> int:
        while len(chain) <= index:
            start = len(chain) * BLOCK_TOKENS
            tokens = tuple(map(asked.token, range(start, start + BLOCK_TOKENS)))
            chain.append(hash((chain[-1] if chain else 0, tokens)))
        return chain[index]

    return block_hash


def _text(text: int, shared: int) -> Callable[[int], int]:
    """Texts agree in their first `shared` tokens, so that prefixes are shared."""

    def token(position: int) -> int:
        return position % 50 + 1 if position < shared else (text * 7919 + position) % 1000 + 100

    return token


def _trace_text(number: int, request: TraceRequest) -> Callable[[int], int]:
    """Equal hash ids are equal tokens; what no id covers is the request's own."""
    ids = request.hash_ids
    covered = min(request.prompt_tokens, len(ids) * HASH_BLOCK_TOKENS)

    def token(position: int) -> int:
        if position < covered:
            block, place = divmod(position, HASH_BLOCK_TOKENS)
            return (ids[block] * 1_000_003 + place) % TOKENS
        return TOKENS + (number * 1_000_003 + position) % TOKENS

    return token


def _profile(blocks: int, cost: IterationCost = COST) -> EngineProfile:
    return EngineProfile(
        name="agreement",
        model="any",
        engine="any",
        accelerator="any",
        accelerator_class=AcceleratorClass.A100,
        tensor_parallel=1,
        cost=cost,
        kv_capacity_tokens=blocks * BLOCK_TOKENS,
        kv_bytes_per_token=1,
        transfer_bytes_per_s=1.0,
        block_size=BLOCK_TOKENS,
    )
