"""What two answers must share: everything but what differs from run to run, or from model to model.

Ids, times, addresses, texts, token ids and probabilities are replaced by what kind of value they are; their number
stays. Of a stream, equal neighbours are one, so that the number of tokens per event is left to the engine.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Any

from contract.answers import DONE, Answer

HEX = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{16}\b|-[0-9a-f]{8}\b"
)
VALIDATION = re.compile(r"^\d+ validation errors?:\n", re.MULTILINE)

Mask = Callable[[Any], Any]


def shape(answer: Answer, *, exact_counts: bool = False) -> dict[str, Any]:
    """`exact_counts`: the prompt was token ids, so its token count is not a matter of the tokenizer."""
    found: dict[str, Any] = {"status": answer.status}
    for header in ("content-type", "allow", "retry-after"):
        if header in answer.headers:
            found[header] = answer.headers[header]
    masks = MASKS if exact_counts else MASKS | COUNT_MASKS
    if answer.streamed:
        events = [event if event == DONE else masked(parsed, masks) for event, parsed in stream(answer)]
        found["events"] = [event for event, _ in groupby(events)]
    elif answer.headers.get("content-type", "").startswith("application/json") and answer.body:
        found["body"] = masked(answer.json, masks)
    else:
        found["body"] = "<empty>" if not answer.body else "<text>"
    return found


def stream(answer: Answer) -> list[tuple[str, Any]]:
    chunks = iter(answer.chunks)
    return [(event, None if event == DONE else next(chunks)) for event in answer.events]


def masked(value: Any, masks: dict[str, Mask]) -> Any:
    if isinstance(value, dict):
        return {key: mask_field(key, item, masks) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, masks) for item in value]
    return HEX.sub("<hex>", value) if isinstance(value, str) else value


def mask_field(key: str, value: Any, masks: dict[str, Mask]) -> Any:
    if value is None or key not in masks:
        return masked(value, masks)
    return masks[key](value)


def as_text(value: Any) -> Any:
    """Empty text stays: it marks an event that carries something else."""
    if isinstance(value, str):
        return "<text>" if value else ""
    return masked(value, MASKS)  # `content` of chat logprobs is a list


def as_list(value: Any) -> Any:
    return f"<{len(value)}>" if isinstance(value, list) else masked(value, MASKS)


def as_blocks(value: list[list[int]]) -> list[str]:
    return [f"<{len(group)} blocks>" for group in value]


def as_message(value: str) -> str:
    """Messages of vLLM itself stay; those of pydantic are an account of its union types."""
    return "<validation>" if VALIDATION.match(value) else value


def kind(name: str) -> Mask:
    return lambda _value: f"<{name}>"


MASKS: dict[str, Mask] = {
    **dict.fromkeys(("text", "content", "arguments"), as_text),
    **dict.fromkeys(("token_ids", "prompt_token_ids", "tokens", "token_logprobs", "text_offset"), as_list),
    **dict.fromkeys(("top_logprobs", "prompt_logprobs", "token_strs"), as_list),
    **dict.fromkeys(("created", "start_time"), kind("time")),
    **{name: kind(name) for name in ("logprob", "token", "bytes")},
    "remote_block_ids": as_blocks,
    "remote_port": kind("port"),
    "remote_host": kind("host"),
    "endpoint": kind("endpoint"),
    "root": kind("path"),
    "system_fingerprint": kind("fingerprint"),
    "message": lambda value: as_message(value) if isinstance(value, str) else masked(value, MASKS),
}
COUNT_MASKS: dict[str, Mask] = {
    **dict.fromkeys(("prompt_tokens", "total_tokens", "count", "remote_num_tokens"), kind("tokens")),
    **dict.fromkeys(
        ("prompt_token_ids", "tokens", "token_strs"),
        lambda value: "<tokens>" if isinstance(value, list) else value,
    ),
}
