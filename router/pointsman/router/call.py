"""One request of a client's, read and checked: what it asks for, without any way to steer an engine behind our back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pointsman.router.connectors.connector import add_fields
from pointsman.router.prompts import Endpoint
from pointsman.router.refusals import BadRequestError

FORBIDDEN_FIELDS = frozenset(
    (
        # vLLM
        "kv_transfer_params", "ec_transfer_params", "priority", "request_id",
        # SGLang
        "bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key", "rid", "data_parallel_rank",
        "data_parallel_rank_decode", "routed_dp_rank", "disagg_prefill_dp_rank",
    )
)  # fmt: skip
"""They would make an engine dial any host, or jump its queue. Only the router sets them."""
FORBIDDEN_HEADERS = frozenset(
    (
        b"x-kv-transfer-params", b"x-data-parallel-rank", b"x-data-parallel-host-port", b"x-prefiller-host-port",
        b"x-prefiller-url", b"x-decoder-host-port", b"x-bootstrap-host", b"x-bootstrap-port", b"x-bootstrap-room",
    )
)  # fmt: skip
"""None of the client's headers reaches an engine; these are refused so that nobody believes they did."""
_NESTED = "vllm_xargs"
"""vLLM hands these to the same place that `kv_transfer_params` goes to."""

MAX_DEPTH = 254
"""Of nested lists and objects: orjson reads 1,024 levels, but writes no more than these."""
FEW_BRACKETS = MAX_DEPTH // 8
"""Up to so many of a kind are looked for one by one."""
MAX_TOKENS = 10_000_000
"""No model answers more; above, a number is a mistake."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
_NEEDS_PROMPT = ("echo", "prompt_logprobs", "use_beam_search", "prompt_embeds")
"""What needs more of the prompt than its KV."""
_SPLIT_MATTERS = frozenset(("n", "best_of", "prompt", *_NEEDS_PROMPT))


@dataclass(init=False, slots=True)
class Call:
    """A request of a known shape. `raw` is what engines are sent; `body` is the same, parsed."""

    endpoint: Endpoint
    raw: bytes
    body: dict[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    """Whether the client asked for usage in its stream."""
    max_output_tokens: int
    """0: not limited by the client."""
    may_split: bool

    def __init__(
        self,
        endpoint: Endpoint,
        raw: bytes,
        body: dict[str, Any],
        model: str,
        *,
        stream: bool,
        wants_usage: bool,
        max_output_tokens: int,
        may_split: bool,
    ) -> None:
        self.endpoint = endpoint
        self.raw = raw
        self.body = body
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        self.max_output_tokens = max_output_tokens
        self.may_split = may_split

    def rename_model(self, name: str) -> None:
        """What the engines call the model."""
        self.body["model"] = self.model = name
        self.raw = orjson.dumps(self.body)

    def ask_for_usage(self) -> None:
        """Let a stream end with its usage, for our own bookkeeping; the session keeps it from the client."""
        options = self.body.get("stream_options")
        if options is None and "stream_options" not in self.body:
            self.body["stream_options"] = {"include_usage": True}
            self.raw = add_fields(self.raw, {"stream_options": {"include_usage": True}})
        else:
            self.body["stream_options"] = {**(options or {}), "include_usage": True}
            self.raw = orjson.dumps(self.body)


def read_call(endpoint: Endpoint, raw: bytes, *, drop_forbidden: bool) -> Call:
    """Raises BadRequestError, naming the place."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequestError("", f"the body is no JSON: {error}") from None
    if type(body) is not dict:
        raise BadRequestError("", "the body must be a JSON object")
    if _has_many(raw, b"[") or _has_many(raw, b"{"):
        _check_depth(body)
    if not FORBIDDEN_FIELDS.isdisjoint(body) or _NESTED in body:
        raw = _without_forbidden(raw, body, drop=drop_forbidden)
    model = body.get("model")
    if type(model) is not str or not model:
        raise BadRequestError("model", "must be the name of a model")
    call = Call(
        endpoint=endpoint,
        raw=raw,
        body=body,
        model=model,
        stream=False,
        wants_usage=False,
        max_output_tokens=0,
        may_split=False,
    )
    if endpoint is not Endpoint.EMBEDDINGS:
        _read_generation(call, body)
    return call


def _has_many(raw: bytes, bracket: bytes) -> bool:
    """Whether a body may be nested too deeply. Finding the usual two or three brackets takes a tenth of counting them."""
    at = -1
    for _ in range(FEW_BRACKETS):
        at = raw.find(bracket, at + 1)
        if at < 0:
            return False
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH


def _check_depth(body: dict[str, Any]) -> None:
    """What orjson would not write again is refused before anybody tries."""
    try:
        orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise BadRequestError("", f"the body is nested more than {MAX_DEPTH} deep") from None


def _read_generation(call: Call, body: dict[str, Any]) -> None:
    stream = body.get("stream")
    if stream:
        call.stream = _flag(body, "stream")
        options = body.get("stream_options")
        if options is not None and type(options) is not dict:
            raise BadRequestError("stream_options", "must be an object")
        call.wants_usage = options is not None and _flag(options, "include_usage", "stream_options.")
    elif stream is not None:
        _flag(body, "stream")
    call.max_output_tokens = _count(body, "max_completion_tokens", 0) or _count(body, "max_tokens", 0)
    call.may_split = _SPLIT_MATTERS.isdisjoint(body) or _may_split(body)


def _may_split(body: dict[str, Any]) -> bool:
    if _count(body, "n", 1) > 1 or _count(body, "best_of", 1) > 1 or any(map(body.get, _NEEDS_PROMPT)):
        return False
    prompt = body.get("prompt")
    return type(prompt) is not list or not prompt or type(prompt[0]) is int


def _without_forbidden(raw: bytes, body: dict[str, Any], *, drop: bool) -> bytes:
    found = [(body, name, name) for name in FORBIDDEN_FIELDS.intersection(body)]
    nested = body.get(_NESTED)
    if type(nested) is dict:
        found += [(nested, name, f"{_NESTED}.{name}") for name in FORBIDDEN_FIELDS.intersection(nested)]
    if not found:
        return raw
    if not drop:
        raise ForbiddenFieldError(min(path for _, _, path in found))
    for holder, name, _ in found:
        del holder[name]
    return orjson.dumps(body)


class ForbiddenFieldError(BadRequestError):
    """The request holds a field that only the router may set."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "may not be set by clients")


class PromptTooLongError(BadRequestError):
    """No tokenizer could make this prompt fit."""

    def __init__(self, context_tokens: int, model: str) -> None:
        super().__init__("", f"the prompt has more tokens than the {context_tokens} that {model} can take")


def refuse_headers(headers: Mapping[bytes, bytes]) -> None:
    """Raises ForbiddenFieldError where a header tries to steer an engine."""
    if not FORBIDDEN_HEADERS.isdisjoint(headers):
        raise ForbiddenFieldError(min(FORBIDDEN_HEADERS.intersection(headers)).decode())


def _flag(body: dict[str, Any], name: str, within: str = "") -> bool:
    value = body.get(name)
    if value is not None and type(value) is not bool:
        raise BadRequestError(within + name, "must be true or false")
    return bool(value)


def _count(body: dict[str, Any], name: str, absent: int) -> int:
    value = body.get(name)
    if value is None:
        return absent
    if type(value) is not int or not 1 <= value <= MAX_TOKENS:
        raise BadRequestError(name, f"must be a whole number from 1 to {MAX_TOKENS}")
    return value
