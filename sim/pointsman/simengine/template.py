"""The chat template: `<|role|>content<|end|>` per message, then `<|assistant|>` for the answer.

Every content starts a new token group, so the prompt of a later turn begins with the very tokens of the earlier turn
and its answer, and their KV is found in the prefix cache.
"""

from array import array
from collections.abc import Sequence
from typing import Any

import orjson

from pointsman.simengine import tokenizer
from pointsman.simengine.bodies import Message, Tool
from pointsman.simengine.errors import bad_request

_ROLE_TOKENS = {
    "system": tokenizer.SYSTEM,
    "developer": tokenizer.SYSTEM,
    "user": tokenizer.USER,
    "assistant": tokenizer.ASSISTANT,
    "tool": tokenizer.TOOL,
}


def content_text(message: Message) -> str:
    """The text of a message. Raises ApiError 400 for parts that are not text."""
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(_part_text(part) for part in message.content)


def has_media(message: Message) -> bool:
    """Whether any part is an image, a sound or a video."""
    if not isinstance(message.content, list):
        return False
    return any(
        isinstance(part, dict) and str(part.get("type")).endswith(("_url", "_audio"))
        for part in message.content
    )


def _part_text(part: dict[str, Any] | str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type")
    if kind in ("text", "input_text") and isinstance(part.get("text"), str):
        return str(part["text"])
    raise bad_request(f"At most 0 {str(kind).split('_')[0]}(s) may be provided in one prompt.")


def render(
    messages: Sequence[Message],
    tools: Sequence[Tool] | None = None,
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
) -> "array[int]":
    """Token ids of a conversation."""
    tokens = array("I")
    if tools:
        tokens.append(tokenizer.TOOLS)
        tokens.extend(tokenizer.encode(orjson.dumps([tool.model_dump() for tool in tools]).decode()))
        tokens.append(tokenizer.END)
    for message in messages:
        role = _ROLE_TOKENS.get(message.role)
        if role is None:
            tokens.append(tokenizer.OTHER_ROLE)
            tokens.extend(tokenizer.encode(message.role + "\n"))
        else:
            tokens.append(role)
        tokens.extend(tokenizer.encode(content_text(message)))
        if message.tool_calls:
            tokens.extend(tokenizer.encode(orjson.dumps(message.tool_calls).decode()))
        tokens.append(tokenizer.END)
    if continue_final_message and tokens:
        tokens.pop()
    elif add_generation_prompt:
        tokens.append(tokenizer.ASSISTANT)
    return tokens
