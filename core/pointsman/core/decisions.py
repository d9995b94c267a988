"""What `decide` answers: one decision per waiting request, with its numbers and a reason a person can read."""

from dataclasses import dataclass
from enum import StrEnum

from pointsman.core.instances import InstanceId


class RejectReason(StrEnum):
    """Fixed vocabulary, the `x-pointsman-reason` of an error answer."""

    MODEL_NOT_FOUND = "model_not_found"
    NO_INSTANCE = "no_instance"
    """The model is served, but nothing that could take the request is available."""
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    """It has waited, or would wait, longer than it may."""


@dataclass(init=False, slots=True)
class Dispatch:
    """Send the request now.

    prefill None: `decode` prefills by itself. Both given: two legs. decode None: prefill now and decide the
    decode instance when the prefill ends (`late_decode`).
    """

    request_id: str
    prefill: InstanceId | None
    decode: InstanceId | None
    policy: str
    candidates: int
    cost: float
    """The chosen candidate's score in the policy's unit; lower is better."""
    why: str
    cached_tokens: int
    """Prompt tokens expected in the cache of the instance that computes the prompt."""

    def __init__(
        self,
        request_id: str,
        prefill: InstanceId | None,
        decode: InstanceId | None,
        policy: str,
        candidates: int,
        cost: float,
        why: str,
        cached_tokens: int = 0,
    ) -> None:
        self.request_id = request_id
        self.prefill = prefill
        self.decode = decode
        self.policy = policy
        self.candidates = candidates
        self.cost = cost
        self.why = why
        self.cached_tokens = cached_tokens

    def explain(self) -> str:
        """One line of ASCII for the `x-pointsman-decision` header."""
        where = f"prefill={self.prefill.address};" if self.prefill else ""
        then = f"decode={self.decode.address}" if self.decode else "decode=later"
        return f"{where}{then};policy={self.policy};candidates={self.candidates};cost={self.cost:g};why={self.why}"


@dataclass(slots=True)
class Wait:
    """Keep it in the router's queue; ask again on the next event, at `until_s` at the latest."""

    request_id: str
    until_s: float
    why: str


@dataclass(slots=True)
class Reject:
    """Answer with an error now."""

    request_id: str
    reason: RejectReason
    why: str
    retry_after_s: float | None = None


@dataclass(slots=True)
class Migrate:
    """Move a running request to another instance. No rule emits it yet; shells must carry it out."""

    request_id: str
    source: InstanceId
    target: InstanceId
    why: str


Decision = Dispatch | Wait | Reject | Migrate
