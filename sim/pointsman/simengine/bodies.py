"""Request bodies as vLLM 0.32 validates them. Unknown fields are let through, as there."""

from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pointsman.simengine.errors import ApiError, FieldError, PlainError, invalid_body

_INT64 = {"ge": -(2**63), "le": 2**63 - 1}
_MAX_STOP_STRINGS = 16
_MAX_PROMPTS = 1024

Stop = str | Annotated[list[str], Field(max_length=_MAX_STOP_STRINGS)] | None
Object = dict[str, Any]


class StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema", "structural_tag"]


class GenerationBody(BaseModel):
    """What chat and plain completions have in common."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = 1
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: Object | None = None
    seed: Annotated[int, Field(**_INT64)] | None = None
    stop: Stop = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    prompt_logprobs: int | None = None
    priority: Annotated[int, Field(**_INT64)] = 0
    request_id: str | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    cache_salt: str | None = None
    kv_transfer_params: Object | None = None
    stream_interval: Annotated[int, Field(ge=1)] | None = None
    # SGLang's disaggregation
    bootstrap_host: str | list[str] | None = None
    bootstrap_port: int | list[int] | None = None
    bootstrap_room: int | list[int] | None = None
    # the simulated engine's own: length of an answer that ends by itself
    pointsman_output_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_vllm_checks_first(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("stream_options") and not data.get("stream"):
            raise FieldError("Stream options can only be defined when `stream=True`.", "stream_options")
        form = data.get("response_format")
        if isinstance(form, dict) and form.get("type") == "json_schema" and form.get("json_schema") is None:
            raise FieldError(
                "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
                "response_format",
            )
        _check_cache_salt(data.get("cache_salt"))
        _check_logprob_numbers(data)
        return data


def _check_cache_salt(salt: object) -> None:
    if salt is None:
        return
    if not isinstance(salt, str) or not salt:
        raise FieldError("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    if len(salt) > 128 or set(salt) & set("@/\\\x00"):
        raise FieldError(
            "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL.",
            "cache_salt",
        )


def _check_logprob_numbers(data: Object) -> None:
    wanted = data.get("prompt_logprobs")
    if wanted is None:
        return
    if not isinstance(wanted, int | float):
        raise FieldError("`prompt_logprobs` must be an integer.", "prompt_logprobs", wanted)
    if data.get("stream") and (wanted > 0 or wanted == -1):
        raise FieldError("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    if wanted < 0 and wanted != -1:
        raise FieldError("`prompt_logprobs` must be a positive value or -1.", "prompt_logprobs", wanted)


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    prompt: Any = None
    echo: bool | None = False
    logprobs: int | None = None
    max_tokens: int | None = 16
    suffix: str | None = None
    add_special_tokens: bool = True

    @model_validator(mode="before")
    @classmethod
    def _prompt_and_logprobs(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("max_tokens") is None:
            data = {**data, "max_tokens": 16}
        prompt = data.get("prompt")
        if prompt is None or prompt == "":
            raise FieldError("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        logprobs = data.get("logprobs")
        if logprobs is not None:
            if not isinstance(logprobs, int | float):
                raise FieldError("`logprobs` must be an integer.", "logprobs", logprobs)
            if logprobs < 0 and logprobs != -1:
                raise FieldError("`logprobs` must be a positive value or -1.", "logprobs", logprobs)
        return data

    @field_validator("prompt")
    @classmethod
    def _prompt_shape(cls, prompt: Any) -> Any:
        if isinstance(prompt, str) or _is_tokens(prompt):
            return prompt
        if isinstance(prompt, list) and (
            all(isinstance(item, str) for item in prompt) or all(_is_tokens(item) for item in prompt)
        ):
            if len(prompt) > _MAX_PROMPTS:
                raise FieldError(
                    f"prompt list length {len(prompt)} exceeds the maximum allowed count of {_MAX_PROMPTS}.",
                    "prompt",
                )
            return prompt
        raise ValueError(
            "Input should be a string, a list of strings, a list of token ids or a list of such lists"
        )

    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or _is_tokens(self.prompt):
            return [self.prompt]
        return list(self.prompt)


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    type: Literal["function"] = "function"
    function: NamedFunction


class FunctionDefinition(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    description: str | None = None
    parameters: Object | None = None


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["function"] = "function"
    function: FunctionDefinition


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[Object | str] | None = None
    tool_calls: list[Object] | None = None


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    messages: list[Message]
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = "none"
    echo: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @model_validator(mode="before")
    @classmethod
    def _chat_rules(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        top = data.get("top_logprobs")
        if top is not None:
            if not isinstance(top, int | float):
                raise FieldError("`top_logprobs` must be an integer.", "top_logprobs", top)
            if top < 0 and top != -1:
                raise FieldError("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
            if (top == -1 or top > 0) and not data.get("logprobs"):
                raise FieldError("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
        if data.get("continue_final_message") and data.get("add_generation_prompt"):
            raise FieldError("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        return _tool_rules(data)

    @model_validator(mode="after")
    def _named_tool_exists(self) -> Self:
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in {
            tool.function.name for tool in self.tools or []
        }:
            raise FieldError(
                "The tool specified in `tool_choice` does not match any of the specified `tools`",
                "tool_choice",
            )
        return self


def _tool_rules(data: Object) -> Object:
    tools, choice = data.get("tools"), data.get("tool_choice")
    if isinstance(tools, list) and not tools:
        raise FieldError(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.",
            "tools",
        )
    if choice is None and tools:
        return {**data, "tool_choice": "auto"}
    if choice is not None and choice != "none":
        if not tools:
            raise FieldError("When using `tool_choice`, `tools` must be set.", "tool_choice")
        if choice not in ("auto", "required") and not isinstance(choice, dict):
            raise FieldError(
                f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" '
                "are supported.",
                "tool_choice",
            )
    return data


class EmbeddingBody(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    input: str | list[int] | list[str] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None


class TokenizeBody(BaseModel):
    """`POST /tokenize`: a prompt or a conversation."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.prompt is None and self.messages is None:
            raise FieldError("Either prompt or messages must be provided.", "prompt")
        return self


class DetokenizeBody(BaseModel):
    """`POST /detokenize`."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, le=2**63 - 1)]]


Body = TypeVar("Body", bound=BaseModel)


def read_body(kind: type[Body], data: bytes, content_type: bytes) -> Body:
    """A validated body. Raises ApiError 400 as vLLM words it."""
    if content_type.split(b";", 1)[0].strip().lower() != b"application/json":
        raise invalid_body(["Unsupported Media Type: Only 'application/json' is allowed"])
    if not data:
        raise invalid_body([{"type": "missing", "loc": (), "msg": "Field required", "input": None}])
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if not _is_utf8(data):
            raise PlainError(400, "There was an error parsing the body") from None
        raise invalid_body(
            [
                {
                    "type": "json_invalid",
                    "loc": (error.pos,),
                    "msg": "JSON decode error",
                    "input": {},
                    "ctx": {"error": error.msg},
                }
            ]
        ) from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refused(error) from None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refused(error: ValidationError) -> ApiError:
    return invalid_body(error.errors(include_url=False))
