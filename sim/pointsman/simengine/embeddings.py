"""`/v1/embeddings`: unit vectors that depend on the tokens, in OpenAI's shape."""

import base64
from typing import Any
from uuid import uuid4

import numpy as np

from pointsman.simengine.bodies import EmbeddingBody
from pointsman.simengine.errors import bad_request
from pointsman.simengine.options import ServerOptions
from pointsman.simengine.sequence import EndRule, TokenSequence, root_state
from pointsman.simengine.tokenizer import encode

_DIMENSIONS = 256


def embeddings_answer(
    body: EmbeddingBody, model: str, options: ServerOptions, created: int
) -> dict[str, Any]:
    """The whole answer. Raises ApiError 400 for an input longer than the context."""
    prompts = _prompts(body)
    longest = options.longest_context()
    data = []
    for index, prompt in enumerate(prompts):
        if len(prompt) > longest:
            raise bad_request(
                f"This model's maximum context length is {longest} tokens. However, your prompt contains "
                f"{len(prompt)} input tokens. Please reduce the length of the input prompt.",
                "input_tokens",
                len(prompt),
            )
        sequence = TokenSequence(root_state(options.model, options.seed), prompt, EndRule.never())
        vector = _vector(sequence.state(len(prompt)), body.dimensions or _DIMENSIONS)
        data.append(
            {
                "index": index,
                "object": "embedding",
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if body.encoding_format == "base64"
                else vector.tolist(),
            }
        )
    total = sum(map(len, prompts))
    return {
        "id": f"embd-{uuid4().hex}",
        "object": "list",
        "created": created,
        "model": model,
        "data": data,
        "usage": {
            "prompt_tokens": total,
            "total_tokens": total,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def _prompts(body: EmbeddingBody) -> list[list[int]]:
    given = body.input
    if isinstance(given, str):
        return [encode(given).tolist()]
    if all(isinstance(item, int) for item in given):
        return [[int(item) for item in given if isinstance(item, int)]]
    return [
        encode(item).tolist() if isinstance(item, str) else list(item)
        for item in given
        if not isinstance(item, int)
    ]


def _vector(state: int, dimensions: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    vector = np.random.default_rng(state).standard_normal(dimensions)
    return vector / np.linalg.norm(vector)
