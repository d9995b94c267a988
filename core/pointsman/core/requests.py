"""A request as decisions see it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from pointsman.core.instances import InstanceId
from pointsman.core.slo import Slo

NO_SLO = Slo()


@dataclass(slots=True)
class RequestView:
    """What is known of a request before it runs. Built once per request and not changed by decisions."""

    request_id: str
    model: str
    prompt_tokens: int
    """Estimated unless a tokenizer is installed."""
    arrived_s: float
    block_hashes: Sequence[int] = ()
    """64-bit hashes of the prompt's prefix, one per block, each covering everything before it."""
    block_tokens: int = 0
    """Estimated tokens one block hash covers. 0: no hashes."""
    tenant: str = ""
    session: str = ""
    program: str = ""
    priority: int = 0
    max_output_tokens: int = 0
    """0: not limited by the client."""
    expected_output_tokens: int = 0
    """Predicted length of the answer. 0: nobody predicts."""
    slo: Slo = NO_SLO
    deadline_s: float = inf
    """When the answer is of no use any more, on the clock of `arrived_s`: nobody waits beyond it."""
    may_split: bool = True
    """Whether prefill and decode may run on two instances (n > 1 may not, embeddings neither)."""
    excluded: frozenset[InstanceId] = field(default=frozenset())
    """Instances that an earlier attempt failed on."""
