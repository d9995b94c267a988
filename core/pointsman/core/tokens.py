"""Prompt tokens estimated from bytes, and the estimate taught by what engines counted."""

import math
from dataclasses import dataclass

STEP_LIMIT = 0.5
"""Most that one observation may count, as a logarithm: an odd request moves the estimate no further than a bad one."""
LEAST_RATE = 0.02
"""Share of an error that is corrected once many requests were seen."""
HALF_WEIGHT_BYTES = 400
"""A prompt of this size counts half: in short ones the chat template's own tokens outweigh the text's."""
LEAST_TOKENS_PER_BYTE = 1 / 32
"""Of long words, rules of dashes and the like; prose has 1/4."""
BOUNDS = (LEAST_TOKENS_PER_BYTE, 2.0)
"""Tokens per byte that the estimate may take on: byte fallback and template on the upper end."""


@dataclass(slots=True)
class TokenEstimate:
    """Tokens per byte of one model's prompts: stochastic approximation of the log ratio with clipped errors.

    Robbins and Monro (1951), with the error clipped as in Huber's M-estimator (1964): between mean and median of the log
    ratio. The rate falls as 1/n to `LEAST_RATE`, so that it settles fast and follows a change of traffic. Wrong for
    a prompt unlike the others, in another script say, by as much as their ratios differ.
    """

    tokens_per_byte: float = 0.25
    observations: float = 0.0
    """Sum of the observations' weights."""

    def tokens(self, prompt_bytes: int) -> int:
        """Estimated tokens, at least 1."""
        return int(prompt_bytes * self.tokens_per_byte) or 1

    def learn(self, prompt_bytes: int, actual_tokens: int) -> float | None:
        """Take in what an engine counted.

        Returns the relative error of the estimate before, (estimate - actual) / actual, or None where there is
        nothing to learn from.
        """
        if prompt_bytes <= 0 or actual_tokens <= 0:
            return None
        estimated = self.tokens_per_byte * prompt_bytes
        error = math.log(actual_tokens / estimated)
        weight = prompt_bytes / (prompt_bytes + HALF_WEIGHT_BYTES)
        self.observations += weight
        rate = weight * max(LEAST_RATE, 1.0 / (self.observations + 1.0))
        step = rate * max(-STEP_LIMIT, min(STEP_LIMIT, error))
        low, high = BOUNDS
        self.tokens_per_byte = max(low, min(high, self.tokens_per_byte * math.exp(step)))
        return estimated / actual_tokens - 1.0
