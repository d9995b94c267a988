"""vLLM's way back from token ids to an answer: what `/inference/v1/generate` gave becomes what clients are used to.

Whole answers only; vLLM also takes one event of a stream at a time.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pointsman.simengine.asgi import Request
from pointsman.simengine.bodies import read_body
from pointsman.simengine.errors import bad_request
from pointsman.simengine.generation import Generation
from pointsman.simengine.tokenizer import decode
from pointsman.simengine.wire import ChatWire, CompletionWire, Heading, Shown, Usage, assistant_message


class GeneratedChoice(BaseModel):
    """One choice of what was generated."""

    model_config = ConfigDict(extra="ignore")
    index: int
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def text(self) -> str:
        return decode(self.token_ids or (), skip_special=True)


class Generated(BaseModel):
    """What `/inference/v1/generate` answers. Fields that are not named here do not come back."""

    model_config = ConfigDict(extra="ignore")
    request_id: str
    choices: list[GeneratedChoice]
    kv_transfer_params: dict[str, Any] | None = None

    def tokens(self) -> int:
        return sum(len(choice.token_ids or ()) for choice in self.choices)


class DerenderChatBody(BaseModel):
    """`POST /v1/chat/completions/derender`."""

    generate_response: Generated
    model: str | None = None
    prompt_tokens: int | None = None


class DerenderCompletionBody(BaseModel):
    """`POST /v1/completions/derender`: one response per prompt."""

    generate_responses: Annotated[list[Generated], Field(min_length=1)]
    model: str | None = None
    prompt_tokens: list[int] | None = None


@dataclass(slots=True)
class Derender:
    """The two paths of it."""

    generation: Generation

    async def chat(self, request: Request) -> None:
        body = read_body(DerenderChatBody, await request.body(), request.headers.get(b"content-type", b""))
        generated = body.generate_response
        for choice in generated.choices:
            if not choice.token_ids:
                raise bad_request(f"choice {choice.index} has empty or null token_ids")
        wire = ChatWire(self._heading(generated, body.model), Shown(), [()])
        choices = [_choice(each, {"message": assistant_message(each.text())}) for each in generated.choices]
        usage = Usage(body.prompt_tokens or 0, generated.tokens())
        await request.answer_json(wire.whole(choices, usage, generated.kv_transfer_params))

    async def completion(self, request: Request) -> None:
        body = read_body(
            DerenderCompletionBody, await request.body(), request.headers.get(b"content-type", b"")
        )
        first, *others = body.generate_responses
        wire = CompletionWire(self._heading(first, body.model), Shown(), [()])
        choices = [
            _choice(each, {"index": index, "text": each.text(), **_NOT_ASKED})
            for index, each in enumerate(each for one in body.generate_responses for each in one.choices)
        ]
        usage = Usage(sum(body.prompt_tokens or ()), sum(each.tokens() for each in body.generate_responses))
        shared = all(other.kv_transfer_params == first.kv_transfer_params for other in others)
        await request.answer_json(wire.whole(choices, usage, first.kv_transfer_params if shared else None))

    def _heading(self, generated: Generated, model: str | None) -> Heading:
        name, _ = self.generation.registry.resolve(model)
        return Heading(generated.request_id, int(self.generation.instance.wall_s()), name, None)


_NOT_ASKED = {"prompt_logprobs": None, "prompt_token_ids": None}


def _choice(choice: GeneratedChoice, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": choice.index,
        **said,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }
