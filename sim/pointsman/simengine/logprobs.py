"""Log probabilities: vLLM's shapes, values made up from the sequence's state.

The generated token is always the most probable one, as in greedy decoding; the others are words drawn from the state.
"""

import math
from typing import Any

from pointsman.simengine.sequence import WORDS, TokenSequence
from pointsman.simengine.tokenizer import token_text

_LOWEST = -9999.0


def candidates(sequence: TokenSequence, position: int, count: int) -> list[tuple[int, float]]:
    """The token at a position of prompt and answer, then `count - 1` other words, with falling log probabilities."""
    state = sequence.state(position)
    share = 0.5 + (state & 0xFFFF) / 0x20000
    [chosen] = sequence.tokens(position, position + 1)
    result = [(chosen, math.log(share))]
    left = 1.0 - share
    word = state >> 16
    while len(result) < max(count, 1):
        token = WORDS[word % len(WORDS)]
        word += 1
        if token != chosen:
            left /= 2
            result.append((token, max(math.log(left), _LOWEST) if left > 0 else _LOWEST))
    return result


def name_of(token: int, *, as_id: bool) -> str:
    return f"token_id:{token}" if as_id else token_text(token)


def chat_logprobs(
    sequence: TokenSequence, start: int, stop: int, top: int, *, as_ids: bool
) -> dict[str, Any]:
    """`choices[].logprobs` of a chat answer for positions of prompt and answer."""
    content = []
    for position in range(start, stop):
        ranked = [
            {"token": (name := name_of(token, as_id=as_ids)), "logprob": value, "bytes": list(name.encode())}
            for token, value in candidates(sequence, position, top)
        ]
        content.append({**ranked[0], "top_logprobs": ranked[:top]})
    return {"content": content}


def completion_logprobs(
    sequence: TokenSequence, start: int, stop: int, top: int, *, as_ids: bool
) -> dict[str, Any]:
    """`choices[].logprobs` of a plain completion. The first token of a prompt has none."""
    offsets, values, names, tops = [], [], [], []
    offset = 0
    for position in range(start, stop):
        ranked = [
            (name_of(token, as_id=as_ids), value) for token, value in candidates(sequence, position, top)
        ]
        name = ranked[0][0]
        offsets.append(offset)
        offset += len(name)
        names.append(name)
        values.append(ranked[0][1] if position else None)
        tops.append(dict(ranked) if position else None)
    return {"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops}
