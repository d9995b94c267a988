"""A request as the engine loop knows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pointsman.sim.engine.blocks import CachedBlock

UNLIMITED: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class KvPull:
    """KV that comes from another instance instead of being computed."""

    tokens: int
    """Leading prompt tokens whose KV arrives."""
    duration_ps: int
    """Time from having blocks to having their content, were all of it pulled."""
    arrive_ps: Callable[[int, int], int] | None = None
    """Where given, tells instead when so many (second) tokens arrive that are asked for at a time (first)."""


@dataclass(slots=True)
class DecodeClock:
    """Decode iterations of an engine: what they add to a request is read off here instead of written to each."""

    begun: int = 0
    ended: int = 0


class EngineRequest:
    """What is asked of the engine, and how far it got.

    How many tokens it will generate is decided before (stop, end of text, max_tokens): the loop needs no text.
    """

    __slots__ = (
        "arrived_ps",
        "block_hash",
        "blocks",
        "cached_blocks",
        "cached_tokens",
        "clock",
        "finished_ps",
        "first_token_ps",
        "hash_blocks",
        "hashes",
        "hold_kv",
        "joined",
        "number",
        "output_tokens",
        "own_computed",
        "own_generated",
        "place",
        "preempted_ps",
        "preemptions",
        "priority",
        "prompt_tokens",
        "pull",
        "request_id",
        "scheduled_ps",
    )

    def __init__(
        self,
        request_id: str,
        prompt_tokens: int,
        output_tokens: int,
        block_hash: Callable[[int], int] | None = None,
        priority: int = 0,
        pull: KvPull | None = None,
        *,
        hold_kv: bool = False,
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        """>= 1."""
        self.block_hash = block_hash
        """Hash of full block i of prompt and output, covering everything before it. None: not cacheable."""
        self.hash_blocks = 1
        """Blocks in a row that one hash stands for."""
        self.hashes = UNLIMITED
        """How many hashes there are."""
        self.priority = priority
        """Lower runs first, as in vLLM."""
        self.pull = pull
        self.hold_kv = hold_kv
        """Keep the blocks after the last token until they are released or the lease expires."""

        self.cached_tokens = 0
        """Prompt tokens found in the prefix cache when it was first scheduled."""
        self.preemptions = 0
        self.preempted_ps = -1
        """When it was last preempted; -1: never."""
        self.arrived_ps = 0
        self.scheduled_ps: int | None = None
        self.first_token_ps: int | None = None
        self.finished_ps: int | None = None

        # The loop's own. While the request decodes, `clock` is the engine's and counts on from these.
        self.number = 0
        """Its place among all arrivals at the engine."""
        self.own_computed = 0
        self.own_generated = 0
        self.cached_blocks: list[CachedBlock] = []
        """Its first blocks: full, and known to the prefix cache."""
        self.blocks = 0
        """All blocks it holds; while it decodes, those that its computed tokens need."""
        self.clock: DecodeClock | None = None
        self.joined = 0
        """Reading of the clock at which decoding stood at `own_computed` and `own_generated`."""
        self.place = -1
        """Its place in the order of joining; -1 while it does not decode."""

    @property
    def caches_answer(self) -> bool:
        """Whether blocks that its answer fills can be found by others."""
        return self.block_hash is not None and self.hashes == UNLIMITED

    @property
    def plain_blocks(self) -> int:
        """Blocks it holds that nobody can find."""
        return self.blocks - len(self.cached_blocks) * self.hash_blocks

    @property
    def computed_tokens(self) -> int:
        """Tokens whose KV is there, or will be when the iteration that is under way ends."""
        clock = self.clock
        return self.own_computed if clock is None else self.own_computed + clock.begun - self.joined

    @property
    def generated_tokens(self) -> int:
        clock = self.clock
        return self.own_generated if clock is None else self.own_generated + clock.ended - self.joined

    @property
    def known_tokens(self) -> int:
        """Prompt and output so far: what must be computed before the next token."""
        return self.prompt_tokens + self.generated_tokens
