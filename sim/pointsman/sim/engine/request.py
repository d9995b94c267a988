"""A request as the engine loop knows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pointsman.sim.engine.blocks import BlockTable


@dataclass(frozen=True, slots=True)
class KvPull:
    """KV that comes from another instance instead of being computed."""

    tokens: int
    """Leading prompt tokens whose KV arrives."""
    duration_ps: int
    """Time from having blocks to having their content."""


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
    """Non-negative hash of full block i of prompt and output, covering everything before it. None: not cacheable."""
    priority: int = 0
    """Lower runs first, as in vLLM."""
    pull: KvPull | None = None
    hold_kv: bool = False
    """Keep the blocks after the last token until they are released or the lease expires."""

    computed_tokens: int = field(default=0, init=False)
    """Tokens whose KV is there, or will be when the iteration that is under way ends."""
    generated_tokens: int = field(default=0, init=False)
    cached_tokens: int = field(default=0, init=False)
    """Prompt tokens found in the prefix cache when it was first scheduled."""
    preemptions: int = field(default=0, init=False)
    arrived_ps: int = field(default=0, init=False)
    scheduled_ps: int | None = field(default=None, init=False)
    first_token_ps: int | None = field(default=None, init=False)
    finished_ps: int | None = field(default=None, init=False)
    blocks: BlockTable = field(default_factory=BlockTable, init=False)

    @property
    def known_tokens(self) -> int:
        """Prompt and output so far: what must be computed before the next token."""
        return self.prompt_tokens + self.generated_tokens
