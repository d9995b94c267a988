"""A request as the engine loop knows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pointsman.sim.engine.blocks import CachedBlock


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


@dataclass(slots=True, eq=False)
class EngineRequest:
    """What is asked of the engine, and how far it got.

    How many tokens it will generate is decided before (stop, end of text, max_tokens): the loop needs no text.
    """

    request_id: str
    prompt_tokens: int
    output_tokens: int
    """>= 1."""
    block_hash: Callable[[int], int] | None = None
    """Hash of full block i of prompt and output, covering everything before it. None: not cacheable."""
    priority: int = 0
    """Lower runs first, as in vLLM."""
    pull: KvPull | None = None
    hold_kv: bool = False
    """Keep the blocks after the last token until they are released or the lease expires."""

    cached_tokens: int = field(default=0, init=False)
    """Prompt tokens found in the prefix cache when it was first scheduled."""
    preemptions: int = field(default=0, init=False)
    preempted_ps: int = field(default=-1, init=False)
    """When it was last preempted; -1: never."""
    arrived_ps: int = field(default=0, init=False)
    scheduled_ps: int | None = field(default=None, init=False)
    first_token_ps: int | None = field(default=None, init=False)
    finished_ps: int | None = field(default=None, init=False)

    # The loop's own. While the request decodes, `clock` is the engine's and counts on from these.
    number: int = field(default=0, init=False)
    """Its place among all arrivals at the engine."""
    own_computed: int = field(default=0, init=False)
    own_generated: int = field(default=0, init=False)
    cached_blocks: list[CachedBlock] = field(default_factory=list, init=False)
    """Its first blocks: full, and known to the prefix cache."""
    blocks: int = field(default=0, init=False)
    """All blocks it holds; while it decodes, those that its computed tokens need."""
    clock: DecodeClock | None = field(default=None, init=False)
    joined: int = field(default=0, init=False)
    """Reading of the clock at which decoding stood at `own_computed` and `own_generated`."""
    place: int = field(default=-1, init=False)
    """Its place in the order of joining; -1 while it does not decode."""

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
