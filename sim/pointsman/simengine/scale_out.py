"""vLLM's `--enable-scale-out`: rendering apart from generating, tokens in and tokens out, aborts by id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from pointsman.simengine.answers import Answer, Delta
from pointsman.simengine.asgi import Request
from pointsman.simengine.bodies import ChatBody, CompletionBody, GenerationBody, StreamOptions, read_body
from pointsman.simengine.errors import PlainError
from pointsman.simengine.generation import Generation, prompt_tokens, request_name, shown_of
from pointsman.simengine.logprobs import candidates
from pointsman.simengine.sampling import check_lengths, check_sampling, stop_strings
from pointsman.simengine.wire import Heading, Usage, Wire

_NOT_SAMPLING = {"output_kind", "skip_clone", "skip_reading_prefix_cache", "detokenize"}


class GenerateBody(BaseModel):
    """`POST /inference/v1/generate`."""

    model_config = ConfigDict(extra="allow")
    token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    sampling_params: dict[str, Any]
    request_id: str | None = None
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    cache_salt: str | None = None
    priority: int = 0
    kv_transfer_params: dict[str, Any] | None = None

    def as_completion(self) -> CompletionBody:
        """The same as a plain completion."""
        sampling = {name: value for name, value in self.sampling_params.items() if name not in _NOT_SAMPLING}
        own = self.model_dump(exclude={"token_ids", "sampling_params", "request_id"}, exclude_none=True)
        return CompletionBody.model_validate({**sampling, **own, "prompt": self.token_ids})


class TokensWire(Wire):
    """Answers of token ids without text."""

    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        usage = None
        if self.shown.continuous_usage:
            usage = Usage(len(self.prompts[prompt]), answer.taken).fields(nulls=True)
        event: dict[str, Any] = {"request_id": self.heading.id, "usage": usage}
        if self.shown.token_ids and answer.taken == len(delta.token_ids):
            event["prompt_token_ids"] = list(self.prompts[prompt])
        return self._data({**event, "output_mode": "tokens", "choices": [self.choice(answer, prompt, delta)]})

    def usage_event(self, usage: Usage) -> bytes:
        counts = usage.fields(nulls=False)
        return self._data(
            {"request_id": self.heading.id, "usage": counts, "output_mode": "tokens", "choices": []}
        )

    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:  # noqa: ARG002
        versions = [{"version": "default", "start": 0, "end": answer.ending.tokens}]
        return {
            "index": answer.index,
            "finish_reason": answer.ending.reason if delta.finished else None,
            "stop_reason": answer.ending.stopped_by if delta.finished else None,
            "token_ids": delta.token_ids,
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": versions if delta.finished else None,
            "logprobs": self._logprobs(answer, delta),
        }

    def whole(self, choices: list[dict[str, Any]], usage: Usage, kv_params: dict[str, Any] | None) -> bytes:
        return orjson.dumps(
            {
                "request_id": self.heading.id,
                "model": self.heading.model,
                "created": self.heading.created,
                "usage": usage.fields(nulls=True),
                "prompt_logprobs": None,
                "prompt_token_id_logprobs": None,
                "prompt_token_ids": list(self.prompts[0]) if self.shown.token_ids else None,
                "mm_placeholders": None,
                "metrics": None,
                "kv_transfer_params": kv_params,
                "ec_transfer_params": None,
                "output_mode": "tokens",
                "choices": choices,
            }
        )

    def _logprobs(self, answer: Answer, delta: Delta) -> dict[str, Any] | None:
        top = self.shown.logprobs
        if top is None:
            return None
        stop = answer.sequence.prompt_tokens + answer.taken
        content = []
        for position in range(stop - len(delta.token_ids), stop):
            ranked = [
                {"token_id": token, "logprob": value}
                for token, value in candidates(answer.sequence, position, top)
            ]
            content.append({**ranked[0], "top_logprobs": ranked[:top]})
        return {"content": content}


@dataclass(slots=True)
class ScaleOut:
    """The paths of it."""

    generation: Generation

    async def render_chat(self, request: Request) -> None:
        body = read_body(ChatBody, await request.body(), _content_type(request))
        prompt = self.generation.chat_prompt(body)
        await request.answer_json(self._rendered("chatcmpl", request, body, prompt))

    async def render_completion(self, request: Request) -> None:
        body = read_body(CompletionBody, await request.body(), _content_type(request))
        self.generation.registry.resolve(body.model)
        prompts = [prompt_tokens(prompt) for prompt in body.prompts()]
        await request.answer_json([self._rendered("cmpl", request, body, prompt) for prompt in prompts])

    async def generate(self, request: Request) -> None:
        body = read_body(GenerateBody, await request.body(), _content_type(request))
        model, lora = self.generation.registry.resolve(body.model)
        name = request_name(request, body.request_id)
        created = int(self.generation.instance.wall_s())
        heading = Heading(f"generate-tokens-{name}", created, model, self.generation.fingerprint)
        completion = body.as_completion()
        prompts = [prompt_tokens(body.token_ids)]
        wire = TokensWire(heading, shown_of(completion), prompts)
        await self.generation.serve(request, completion, wire, lora)

    async def abort(self, request: Request) -> None:
        """Ends those that run with the reason `abort`, and answers 200 whether there are any."""
        try:
            wanted = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise PlainError(400, f"JSON decode error: {error}") from None
        names = wanted.get("request_ids") if isinstance(wanted, dict) else None
        if names is None:
            raise PlainError(400, "Missing 'request_ids' in request body")
        self.generation.instance.abort_named(names if isinstance(names, list) else [names])
        await request.answer(200, b"")

    def _rendered(
        self, prefix: str, request: Request, body: GenerationBody, prompt: Sequence[int]
    ) -> dict[str, Any]:
        check_sampling(body)
        longest = self.generation.instance.options.longest_context()
        max_tokens = check_lengths(body, len(prompt), longest)
        return {
            "request_id": f"{prefix}-{request_name(request, body.request_id)}",
            "token_ids": list(prompt),
            "token_offsets": None,
            "features": None,
            "content_parts": None,
            "sampling_params": _sampling_fields(body, max_tokens),
            "model": body.model,
            "reasoning_ended": None,
            "reasoning_parser_kwargs": None,
            "return_token_ids": None,
            "output_mode": "tokens",
            "stream": bool(body.stream),
            "stream_options": body.stream_options.model_dump() if body.stream_options else None,
            "cache_salt": body.cache_salt,
            "priority": body.priority,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
        }


def _sampling_fields(body: GenerationBody, max_tokens: int) -> dict[str, Any]:
    """VLLM's SamplingParams, without what has its default."""
    fields: dict[str, Any] = {
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "repetition_penalty": 1.0 if body.repetition_penalty is None else body.repetition_penalty,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "stop": list(stop_strings(body)),
        "stop_token_ids": body.stop_token_ids or [],
        "ignore_eos": body.ignore_eos,
        "max_tokens": max_tokens,
        "output_kind": 1 if body.stream else 2,
        "skip_clone": True,
        "bad_words": [],
        "skip_reading_prefix_cache": False,
    }
    changed = {"n": (body.n or 1, 1), "min_tokens": (body.min_tokens, 0), "seed": (body.seed, None)}
    fields.update({name: value for name, (value, default) in changed.items() if value != default})
    return fields


def _content_type(request: Request) -> bytes:
    return request.headers.get(b"content-type", b"")
