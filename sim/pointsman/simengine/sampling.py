"""Checks of the sampling fields, in vLLM's order and words, and what they mean for an answer's length."""

import math

from pointsman.simengine.answers import Limits
from pointsman.simengine.bodies import ChatBody, CompletionBody, GenerationBody
from pointsman.simengine.errors import bad_request
from pointsman.simengine.tokenizer import VOCAB_SIZE

_GREEDY_BELOW = 1e-5
_MAX_LOGPROBS = 20


def check_sampling(body: GenerationBody) -> None:
    """Raises ApiError 400 for the first field that is out of its range."""
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = getattr(body, name)
        if penalty is not None and not -2 <= penalty <= 2:
            raise bad_request(f"{name} must be in [-2, 2], got {penalty}.")
    repetition = body.repetition_penalty
    if repetition is not None and not (math.isfinite(repetition) and repetition > 0):
        raise bad_request(f"repetition_penalty must be greater than zero, got {repetition}.")
    temperature = body.temperature
    if temperature is not None:
        if temperature < 0:
            raise bad_request(
                f"temperature must be non-negative, got {temperature}.", "temperature", temperature
            )
        if not temperature <= 2:
            raise bad_request(
                f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature
            )
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_request(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.top_k is not None and body.top_k < -1:
        raise bad_request(f"top_k must be 0 (disable), or at least 1, got {body.top_k}.")
    if body.min_p is not None and not 0 <= body.min_p <= 1:
        raise bad_request(f"min_p must be in [0, 1], got {body.min_p}.")
    choices = 1 if body.n is None else body.n
    if choices < 1:
        raise bad_request(f"n must be at least 1, got {choices}.")
    if choices > 1 and temperature is not None and temperature < _GREEDY_BELOW:
        raise bad_request(f"n must be 1 when using greedy sampling, got {choices}.")
    _check_stops(body)
    wanted = wanted_logprobs(body)
    if wanted is not None and wanted > _MAX_LOGPROBS:
        raise bad_request(
            f"Requested sample logprobs of {wanted}, which is greater than max allowed: {_MAX_LOGPROBS}",
            "logprobs",
            wanted,
        )


def _check_stops(body: GenerationBody) -> None:
    if any(not stop for stop in stop_strings(body)):
        raise bad_request("stop cannot contain an empty string.")
    beyond = [token for token in body.stop_token_ids or () if not 0 <= token < VOCAB_SIZE]
    if beyond:
        raise bad_request(
            f"token_id(s) {beyond} in stop_token_ids contain out-of-vocab token ids. Vocabulary size: {VOCAB_SIZE}",
            "stop_token_ids",
            beyond,
        )


def stop_strings(body: GenerationBody) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def wanted_logprobs(body: GenerationBody) -> int | None:
    """Alternatives per token; None: no log probabilities."""
    if isinstance(body, CompletionBody):
        return body.logprobs
    if isinstance(body, ChatBody) and body.logprobs:
        return body.top_logprobs or 0
    return None


def wanted_tokens(body: GenerationBody) -> tuple[str, int | None]:
    """The field that limits the answer, and its value."""
    if isinstance(body, ChatBody):
        if body.max_completion_tokens is not None:
            return "max_completion_tokens", body.max_completion_tokens
        return "max_tokens", body.max_tokens
    if isinstance(body, CompletionBody):
        return "max_tokens", body.max_tokens
    return "max_tokens", None


def check_lengths(body: GenerationBody, prompt_tokens: int, longest: int) -> int:
    """How many tokens the answer to a prompt may have. Raises ApiError 400 as vLLM does, in its order."""
    name, wanted = wanted_tokens(body)
    if wanted is not None and wanted > longest:
        raise bad_request(
            f"{name}={wanted} cannot be greater than max_model_len={longest}. Please request fewer output tokens.",
            name,
            wanted,
        )
    if prompt_tokens > longest:
        # vLLM stops to count a text's tokens at the first one too many
        told = longest + 1 if _is_text(body) else prompt_tokens
        least = "at least " if told == longest + 1 else ""
        raise bad_request(
            f"This model's maximum context length is {longest} tokens. However, your prompt contains "
            f"{least}{told} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            "input_tokens",
            told,
        )
    if not prompt_tokens:
        raise bad_request("The decoder prompt cannot be empty")
    echo_only = isinstance(body, CompletionBody) and body.echo and wanted == 0
    allowed = longest - prompt_tokens
    limit = allowed if wanted is None else min(wanted, allowed)
    if echo_only:
        limit = 1
    if limit < 1:
        raise bad_request(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if body.min_tokens < 0:
        raise bad_request(f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.")
    if body.min_tokens > limit:
        raise bad_request(
            f"min_tokens must be less than or equal to max_tokens={limit}, got {body.min_tokens}."
        )
    return limit


def _is_text(body: GenerationBody) -> bool:
    return not isinstance(body, CompletionBody) or isinstance(body.prompts()[0], str)


def limits_of(body: GenerationBody, max_tokens: int, mean_tokens: float) -> Limits:
    """When an answer to this body ends."""
    return Limits(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
        own_tokens=body.pointsman_output_tokens,
        mean_tokens=mean_tokens,
        stop=stop_strings(body),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        include_stop=body.include_stop_str_in_output,
    )
