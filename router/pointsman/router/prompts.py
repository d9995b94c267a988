"""A prompt's size and identity, without a tokenizer: estimated tokens, and hashes of its prefix blocks.

Two requests whose prompts begin alike share the hashes of the blocks they have in common, so the canonical form of a
prompt is written front to back in the order engines render it: tools, then message by message. Its separators are
bytes that UTF-8 never contains, so that no text can imitate a message boundary.
"""

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import orjson
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from pointsman.core.tokens import LEAST_TOKENS_PER_BYTE, TokenEstimate
from pointsman.router.refusals import BadRequestError

MESSAGE, CONTENT, MEDIA, EXTRA = b"\xff", b"\xfe", b"\xfd", b"\xfc"

MESSAGE_BYTES = 12
"""What a chat template adds to each message: about three tokens."""
MEDIA_BYTES = 2048
"""What an image or the like weighs: some 500 tokens, the order of magnitude of common encoders."""
TOKEN_ID_BYTES = 4
REMEMBERED_SEEDS = 4096
REMEMBERED_SALT = 128
"""Longest salt whose seed is kept: clients make them up."""

_OPENINGS = MappingProxyType(
    {
        role: b"".join((MESSAGE, role.encode(), CONTENT))
        for role in ("system", "developer", "user", "assistant", "tool")
    }
)
_RENDERED = frozenset(("tools", "functions", "documents", "chat_template", "chat_template_kwargs"))
"""What chat templates write before, or around, the messages."""
_SCHEME = re.compile(r"\s*(?!data:)[a-z][a-z0-9+.-]{0,31}://", re.IGNORECASE)
_TEXT_FIELDS = ("text", "refusal", "thinking")
_TEXT_PART = frozenset((*_TEXT_FIELDS, "type"))


class Endpoint(StrEnum):
    """What takes a prompt."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


@dataclass(init=False, slots=True)
class Prompt:
    """What placement needs to know of a prompt."""

    estimated_tokens: int
    least_tokens: int
    """What it surely has, or the longest of a list of prompts: exact for token ids."""
    prompt_bytes: int
    """For `PromptReader.learn`; 0: the estimate has nothing to learn from it (token ids, media)."""
    block_hashes: Sequence[int]
    """64 bits each, one per full block, each covering everything before it. Of a list of prompts: the first's."""
    block_tokens: int
    """Estimated tokens in a block."""
    has_remote_media: bool
    """Whether it holds a URL that the engine would fetch."""

    def __init__(
        self,
        estimated_tokens: int,
        least_tokens: int,
        prompt_bytes: int,
        block_hashes: Sequence[int],
        block_tokens: int,
        *,
        has_remote_media: bool = False,
    ) -> None:
        self.estimated_tokens = estimated_tokens
        self.least_tokens = least_tokens
        self.prompt_bytes = prompt_bytes
        self.block_hashes = block_hashes
        self.block_tokens = block_tokens
        self.has_remote_media = has_remote_media


class PromptReader:
    """Reads prompts of every model. Not pure in one respect: it learns tokens per byte."""

    def __init__(
        self,
        key: bytes,
        block_bytes: int,
        tokens_per_byte: float,
        on_error: Callable[[str, float], None],
    ) -> None:
        """`key` is the installation's secret, of up to 64 bytes: without it nobody can compute another's hashes.

        `on_error(model, error)` hears the relative error of each estimate that could be checked.
        """
        self._key = key
        self._block_bytes = block_bytes
        self._initial = tokens_per_byte
        self._on_error = on_error
        self._estimates: dict[str, TokenEstimate] = {}
        self._seeds: dict[tuple[str, str, str], int] = {}

    def read(self, endpoint: str, body: dict[str, Any], tenant: str, model: str) -> Prompt:
        """Measure and hash the prompt of a request's body, which `read_call` has accepted.

        `model` is a known name (of a model or a LoRA adapter), never what a client made up. Raises
        BadRequestError, with the path in the body, where something is not of the type it must have.
        """
        if endpoint == Endpoint.CHAT or (endpoint == Endpoint.EMBEDDINGS and "messages" in body):
            return self._read_chat(body, tenant, model)
        return self._read_text(body, "input" if endpoint == Endpoint.EMBEDDINGS else "prompt", tenant, model)

    def learn(self, model: str, prompt_bytes: int, actual_tokens: int) -> None:
        """Take in the `usage.prompt_tokens` of an answer to a prompt of this size."""
        error = self._estimate(model).learn(prompt_bytes, actual_tokens)
        if error is not None:
            self._on_error(model, error)

    def tokens_per_byte(self, model: str) -> float:
        return self._estimate(model).tokens_per_byte

    def _estimate(self, model: str) -> TokenEstimate:
        estimate = self._estimates.get(model)
        if estimate is None:
            estimate = self._estimates[model] = TokenEstimate(self._initial)
        return estimate

    def _read_chat(self, body: dict[str, Any], tenant: str, model: str) -> Prompt:
        messages = body.get("messages")
        if type(messages) is not list:
            raise BadRequestError("messages", f"must be a list, not {_kind(messages)}")
        if not messages:
            raise BadRequestError("messages", "must hold at least one message")
        parts = [] if _RENDERED.isdisjoint(body) else [_rendered(body)]
        media: list[bool] = []
        for index, message in enumerate(messages):
            # Nearly every message is a role and a text; they take 0.3 us, the others 2.
            if type(message) is dict and len(message) == 2 and type(text := message.get("content")) is str:
                role = message.get("role")
                if type(role) is str and (opening := _OPENINGS.get(role)) is not None:
                    parts.append(opening)
                    parts.append(text.encode())
                    continue
            parts.append(_message(message, index, media))
        canonical = b"".join(parts)
        size = len(canonical) + MESSAGE_BYTES * len(messages) + MEDIA_BYTES * len(media)
        estimate = self._estimate(model)
        return Prompt(
            estimated_tokens=estimate.tokens(size),
            least_tokens=int(len(canonical) * LEAST_TOKENS_PER_BYTE),
            prompt_bytes=0 if media else size,
            block_hashes=self._hashes(canonical, model, tenant, body),
            block_tokens=estimate.tokens(self._block_bytes),
            has_remote_media=any(media),
        )

    def _read_text(self, body: dict[str, Any], field: str, tenant: str, model: str) -> Prompt:
        prompt = body.get(field)
        if type(prompt) is str:
            return self._text([prompt.encode()], model, tenant, body)
        if type(prompt) is list and prompt:
            first = prompt[0]
            if type(first) is int:
                return self._ids([_ids(prompt, field)], model, tenant, body)
            if type(first) is list:
                listed = [_ids(ids, f"{field}[{index}]") for index, ids in enumerate(prompt)]
                return self._ids(listed, model, tenant, body)
            if type(first) is str:
                return self._text(_texts(prompt, field), model, tenant, body)
            raise BadRequestError(f"{field}[0]", f"must be text or token ids, not {_kind(first)}")
        if prompt is None and body.get("prompt_embeds") is not None:
            return Prompt(1, 0, 0, (), 0)
        allowed = "text, a list of token ids, or a list of either that is not empty"
        raise BadRequestError(
            field, f"must be {allowed}" + ("" if prompt == [] else f", not {_kind(prompt)}")
        )

    def _text(self, texts: list[bytes], model: str, tenant: str, body: dict[str, Any]) -> Prompt:
        size = sum(map(len, texts))
        estimate = self._estimate(model)
        return Prompt(
            estimated_tokens=estimate.tokens(size),
            least_tokens=int(len(max(texts, key=len)) * LEAST_TOKENS_PER_BYTE),
            prompt_bytes=size,
            block_hashes=self._hashes(texts[0], model, tenant, body),
            block_tokens=estimate.tokens(self._block_bytes),
        )

    def _ids(self, prompts: list[bytes], model: str, tenant: str, body: dict[str, Any]) -> Prompt:
        return Prompt(
            estimated_tokens=sum(map(len, prompts)) // TOKEN_ID_BYTES or 1,
            least_tokens=max(map(len, prompts)) // TOKEN_ID_BYTES,
            prompt_bytes=0,
            block_hashes=self._hashes(prompts[0], model, tenant, body),
            block_tokens=self._block_bytes // TOKEN_ID_BYTES,
        )

    def _hashes(self, canonical: bytes, model: str, tenant: str, body: dict[str, Any]) -> list[int]:
        salt = body.get("cache_salt")
        if salt is not None and type(salt) is not str:
            raise BadRequestError("cache_salt", f"must be text, not {_kind(salt)}")
        chain = self._seed(model, tenant, salt or "")
        size = self._block_bytes
        return [
            chain := xxh3_64_intdigest(canonical[start : start + size], chain)
            for start in range(0, len(canonical) - size + 1, size)
        ]

    def _seed(self, model: str, tenant: str, salt: str) -> int:
        """Where a chain starts: what must agree besides the prompt itself before KV may be shared."""
        scope = (model, tenant, salt)
        seed = self._seeds.get(scope)
        if seed is None:
            text = MESSAGE.join(part.encode() for part in scope)
            seed = int.from_bytes(blake2b(text, digest_size=8, key=self._key).digest(), "big")
            if len(salt) <= REMEMBERED_SALT:
                if len(self._seeds) >= REMEMBERED_SEEDS:
                    self._seeds.clear()
                self._seeds[scope] = seed
        return seed


def _rendered(body: dict[str, Any]) -> bytes:
    present = {field: body[field] for field in _RENDERED if body.get(field)}
    return EXTRA + _json(present) if present else b""


def _message(message: Any, index: int, media: list[bool]) -> bytes:
    """One message's canonical form; appends to `media`, for each thing in it that is no text, whether it is remote."""
    if type(message) is not dict:
        raise BadRequestError(f"messages[{index}]", f"must be an object, not {_kind(message)}")
    role = message.get("role")
    if type(role) is not str:
        raise BadRequestError(f"messages[{index}].role", f"must be text, not {_kind(role)}")
    content = message.get("content")
    if type(content) is str:
        text = content.encode()
    elif content is None:
        text = b""
    elif type(content) is list:
        text = _content_parts(content, f"messages[{index}].content", media)
    else:
        raise BadRequestError(
            f"messages[{index}].content", f"must be text or a list of parts, not {_kind(content)}"
        )
    if len(message) > 2 or "content" not in message:
        rest = {name: value for name, value in message.items() if name not in {"role", "content"} and value}
        if rest:
            return b"".join((MESSAGE, role.encode(), CONTENT, text, EXTRA, _json(rest)))
    return b"".join((MESSAGE, role.encode(), CONTENT, text))


def _content_parts(parts: list[Any], path: str, media: list[bool]) -> bytes:
    """Texts are joined by line breaks, as vLLM does for templates that want a string; one text equals the string."""
    pieces: list[bytes] = []
    for index, part in enumerate(parts):
        if type(part) is str:
            pieces.append(part.encode())
            continue
        if type(part) is not dict:
            raise BadRequestError(f"{path}[{index}]", f"must be an object, not {_kind(part)}")
        for field in _TEXT_FIELDS:
            text = part.get(field)
            if text is not None:
                if type(text) is not str:
                    raise BadRequestError(f"{path}[{index}].{field}", f"must be text, not {_kind(text)}")
                pieces.append(text.encode())
        other = {name: value for name, value in part.items() if name not in _TEXT_PART and value is not None}
        if other:
            media.append(_fetches(other))
            # Its digest, not itself: megabytes of an image are no megabytes of prompt.
            pieces.append(MEDIA + xxh3_128_digest(_json(other)))
    return b"\n".join(pieces)


def _fetches(value: Any, *, is_url: bool = False) -> bool:
    """Whether a content part holds a URL other than a data URL, whatever the field is called."""
    if isinstance(value, str):
        if is_url:
            return not value.lstrip()[:5].lower().startswith("data:")
        return _SCHEME.match(value) is not None
    if isinstance(value, dict):
        return any(
            _fetches(inner, is_url=name == "url" or name.endswith("_url")) for name, inner in value.items()
        )
    if isinstance(value, list):
        return any(_fetches(inner, is_url=is_url) for inner in value)
    return False


def _texts(prompts: list[Any], path: str) -> list[bytes]:
    for index, prompt in enumerate(prompts):
        if type(prompt) is not str:
            raise BadRequestError(f"{path}[{index}]", f"must be text like the first, not {_kind(prompt)}")
    return [prompt.encode() for prompt in prompts]


def _ids(ids: Any, path: str) -> bytes:
    if type(ids) is not list or not ids:
        raise BadRequestError(path, "must be a list of token ids that is not empty")
    try:
        return array("I", ids).tobytes()
    except (TypeError, OverflowError):
        index = next(i for i, token in enumerate(ids) if type(token) is not int or not 0 <= token < 2**32)
        raise BadRequestError(f"{path}[{index}]", "must be a token id, a whole number from 0") from None


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _kind(value: Any) -> str:
    """What JSON calls a value's type."""
    if value is None:
        return "null"
    names = {
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names[type(value)]
