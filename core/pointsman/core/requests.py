"""A request as decisions see it.

Here and wherever else an object is made per request, `__init__` is written out: mypyc compiles it, while the one that
`dataclass` makes stays interpreted and takes four times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from pointsman.core.instances import InstanceId
from pointsman.core.slo import Slo

NO_SLO = Slo()


@dataclass(init=False, slots=True)
class RequestView:
    """What is known of a request before it runs. Built once per request and not changed by decisions."""

    request_id: str
    model: str
    prompt_tokens: int
    """Estimated unless a tokenizer is installed."""
    arrived_s: float
    block_hashes: Sequence[int]
    """64-bit hashes of the prompt's prefix, one per block, each covering everything before it."""
    block_tokens: int
    """Estimated tokens one block hash covers. 0: no hashes."""
    tenant: str
    session: str
    program: str
    priority: int
    max_output_tokens: int
    """0: not limited by the client."""
    expected_output_tokens: int
    """Predicted length of the answer. 0: nobody predicts."""
    slo: Slo
    deadline_s: float
    """When the answer is of no use any more, on the clock of `arrived_s`: nobody waits beyond it."""
    due_s: float
    """When this call should have ended if its program is to meet its deadline, on the same clock; it may be late."""
    may_split: bool
    """Whether prefill and decode may run on two instances (n > 1 may not, embeddings neither)."""
    excluded: frozenset[InstanceId]
    """Instances that an earlier attempt failed on."""

    def __init__(
        self,
        request_id: str,
        model: str,
        prompt_tokens: int,
        arrived_s: float,
        block_hashes: Sequence[int] = (),
        block_tokens: int = 0,
        tenant: str = "",
        session: str = "",
        program: str = "",
        priority: int = 0,
        max_output_tokens: int = 0,
        expected_output_tokens: int = 0,
        slo: Slo = NO_SLO,
        deadline_s: float = inf,
        due_s: float = inf,
        *,
        may_split: bool = True,
        excluded: frozenset[InstanceId] = frozenset(),
    ) -> None:
        self.request_id = request_id
        self.model = model
        self.prompt_tokens = prompt_tokens
        self.arrived_s = arrived_s
        self.block_hashes = block_hashes
        self.block_tokens = block_tokens
        self.tenant = tenant
        self.session = session
        self.program = program
        self.priority = priority
        self.max_output_tokens = max_output_tokens
        self.expected_output_tokens = expected_output_tokens
        self.slo = slo
        self.deadline_s = deadline_s
        self.due_s = due_s
        self.may_split = may_split
        self.excluded = excluded
