"""A reversible tokenizer whose token counts anyone can predict without it.

Text is UTF-8. A run of ASCII characters is cut from its start into groups of four (the last may be shorter); every
byte above 0x7f is a token of its own. So N * 4 ASCII characters are exactly N tokens, and a prefix of 4k characters
is a prefix of k tokens. Ids are computed, not stored:

    0..255                a single byte
    256..263              the special tokens
    2^(7k) + packed       a group of k = 2..4 ASCII characters, 7 bits each, the first one highest

Other ids below `VOCAB_SIZE` are accepted in prompts and decode to U+FFFD.
"""

import re
from array import array
from collections.abc import Iterable

import numpy as np

VOCAB_SIZE = 1 << 29

END = 256
SYSTEM, USER, ASSISTANT, TOOL, OTHER_ROLE, TOOLS = range(257, 263)
SPECIAL_TEXT = {
    END: "<|end|>",
    SYSTEM: "<|system|>",
    USER: "<|user|>",
    ASSISTANT: "<|assistant|>",
    TOOL: "<|tool|>",
    OTHER_ROLE: "<|role|>",
    TOOLS: "<|tools|>",
}

_ASCII_RUN = re.compile(rb"[\x00-\x7f]+")
_GROUP_WEIGHTS = np.array([1 << 21, 1 << 14, 1 << 7, 1], dtype=np.uint32)


def encode(text: str) -> "array[int]":
    """Token ids of a text. Lone surrogates count as '?'."""
    data = text.encode("utf-8", errors="replace")
    tokens = array("I")
    if data.isascii():
        _append_ascii(tokens, data)
        return tokens
    at = 0
    for run in _ASCII_RUN.finditer(data):
        tokens.extend(data[at : run.start()])
        _append_ascii(tokens, run.group())
        at = run.end()
    tokens.extend(data[at:])
    return tokens


def _append_ascii(tokens: "array[int]", data: bytes) -> None:
    whole = len(data) & ~3
    if whole:
        groups = np.frombuffer(data, dtype=np.uint8, count=whole).reshape(-1, 4)
        tokens.frombytes((groups @ _GROUP_WEIGHTS + np.uint32(1 << 28)).astype(np.uint32).tobytes())
    if rest := data[whole:]:
        tokens.append(group_id(rest))


def group_id(group: bytes) -> int:
    """Id of one to four ASCII characters."""
    if len(group) == 1:
        return group[0]
    packed = 1
    for character in group:
        packed = packed << 7 | character
    return packed


def token_bytes(token: int) -> bytes:
    """The bytes a token stands for; special tokens by their names."""
    if token < 256:
        return bytes((token,))
    if token in SPECIAL_TEXT:
        return SPECIAL_TEXT[token].encode()
    length, odd = divmod(token.bit_length() - 1, 7)
    if odd or not 2 <= length <= 4:
        return "\N{REPLACEMENT CHARACTER}".encode()
    return bytes(token >> 7 * place & 0x7F for place in reversed(range(length)))


def decode(tokens: Iterable[int], *, skip_special: bool = False) -> str:
    """The text of tokens: the exact inverse of `encode` for its own output."""
    return b"".join(
        token_bytes(token) for token in tokens if not (skip_special and token in SPECIAL_TEXT)
    ).decode("utf-8", errors="replace")


def token_text(token: int) -> str:
    """A token's text by itself; part of a character shows as U+FFFD."""
    return token_bytes(token).decode("utf-8", errors="replace")
