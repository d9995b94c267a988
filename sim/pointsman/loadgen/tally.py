"""Sums over a replay's answers that tell how far to believe its figures."""

from collections import Counter
from dataclasses import dataclass, field

from pointsman.loadgen.answer import Answer
from pointsman.sim.report import Outcome
from pointsman.sim.workload.request import TraceRequest

LEAST_ANSWER_SHARE = 0.95
PROMPT_TOLERANCE = 0.1
MOST_ERRORS = 100
OTHER_ERRORS = "other errors"


@dataclass(slots=True)
class Tally:
    """Of completed requests, warm-up included."""

    asked_output_tokens: int = 0
    output_tokens: int = 0
    asked_prompt_tokens: int = 0
    """Of requests whose answer said how long its prompt was, as the next two."""
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """None: no answer said."""
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, request: TraceRequest, answer: Answer) -> None:
        if answer.outcome in (Outcome.FAILED, Outcome.REJECTED):
            error = f"{answer.status or 'no response'}: {answer.error}"
            known = error in self.errors or len(self.errors) < MOST_ERRORS
            self.errors[error if known else OTHER_ERRORS] += 1
        if answer.outcome is not Outcome.COMPLETED:
            return
        self.asked_output_tokens += request.output_tokens
        self.output_tokens += answer.output_tokens
        if answer.prompt_tokens is not None and request.prompt is None:
            self.asked_prompt_tokens += request.prompt_tokens
            self.prompt_tokens += answer.prompt_tokens
        if answer.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + answer.cached_tokens

    @property
    def prefix_hit_rate(self) -> float | None:
        if self.cached_tokens is None or not self.prompt_tokens:
            return None
        return self.cached_tokens / self.prompt_tokens

    def marks(self) -> list[str]:
        found = []
        if self.output_tokens < LEAST_ANSWER_SHARE * self.asked_output_tokens:
            share = self.output_tokens / self.asked_output_tokens
            found.append(f"answers had {share:.0%} of the tokens that the trace asks for")
        if self.asked_prompt_tokens:
            share = self.prompt_tokens / self.asked_prompt_tokens
            if abs(share - 1.0) > PROMPT_TOLERANCE:
                found.append(f"prompts counted {share:.0%} of the tokens that the trace asks for")
        return found
