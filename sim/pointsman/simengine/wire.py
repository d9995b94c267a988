"""What an answer looks like on the wire: the fields, their order and their nulls as vLLM 0.32 writes them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from pointsman.simengine import logprobs
from pointsman.simengine.answers import Answer, Delta
from pointsman.simengine.errors import ApiError
from pointsman.simengine.tokenizer import decode

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Usage:
    """Token counts of one HTTP request."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int | None = None
    """None: details are not reported."""
    created_cache_tokens: int | None = None

    def fields(self, *, nulls: bool) -> dict[str, Any]:
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }
        details = None
        if self.cached_tokens is not None:
            details = {
                "cached_tokens": self.cached_tokens,
                "created_cache_tokens": self.created_cache_tokens,
                "multimodal_tokens": None,
            }
        if nulls:
            return {**counts, "prompt_tokens_details": details, "completion_tokens_details": None}
        if details is not None:
            counts["prompt_tokens_details"] = {
                name: value for name, value in details.items() if value is not None
            }
        return counts


@dataclass(slots=True)
class Heading:
    """What all events and the whole answer of one HTTP request repeat."""

    id: str
    created: int
    model: str
    fingerprint: str | None


@dataclass(slots=True)
class Shown:
    """What the client asked to see."""

    logprobs: int | None = None
    """Alternatives per token; None: no log probabilities."""
    logprobs_as_ids: bool = False
    token_ids: bool = False
    echo: bool = False
    usage: bool = False
    continuous_usage: bool = False


@dataclass(slots=True)
class Wire(ABC):
    """Renders one HTTP request's answers. `prompts` are the token ids of each prompt."""

    heading: Heading
    shown: Shown
    prompts: Sequence[Sequence[int]]
    _heads: dict[int, bytes] = field(default_factory=dict)

    event_object = ""
    answer_object = ""
    event_usage: ClassVar[Mapping[str, None]] = {}
    """What an event's usage has besides the counts."""

    def internal_id(self, index: int) -> str:
        """What the engine calls a choice, but for what makes it unique."""
        return f"{self.heading.id}-{index}"

    def opening(self, choices: int) -> bytes:  # noqa: ARG002
        """Events before the first token, sent with it."""
        return b""

    @abstractmethod
    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        """One SSE event."""

    @abstractmethod
    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:
        """One choice of an answer that is not streamed; the delta is all of it."""

    def usage_event(self, usage: Usage) -> bytes:
        """The last event when usage was asked for."""
        return self._data(
            {
                "id": self.heading.id,
                "object": self.event_object,
                "created": self.heading.created,
                "model": self.heading.model,
                "choices": [],
                "usage": usage.fields(nulls=False),
                "system_fingerprint": self.heading.fingerprint,
            }
        )

    def error_event(self, error: ApiError) -> bytes:
        """What a stream that has begun says of a failure."""
        return self._data(error.body())

    def whole(self, choices: list[dict[str, Any]], usage: Usage, kv_params: dict[str, Any] | None) -> bytes:
        """The body of an answer that is not streamed."""
        return orjson.dumps(
            {
                "id": self.heading.id,
                "object": self.answer_object,
                "created": self.heading.created,
                "model": self.heading.model,
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": self.heading.fingerprint,
                "usage": usage.fields(nulls=True),
                **self._prompt_fields(),
                "kv_transfer_params": kv_params,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )

    def _prompt_fields(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def _data(event: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % orjson.dumps(event)

    def _head(self, index: int, opening: str) -> bytes:
        """An event up to the choice's first own field, cached per choice."""
        head = self._heads.get(index)
        if head is None:
            start = orjson.dumps(
                {
                    "id": self.heading.id,
                    "object": self.event_object,
                    "created": self.heading.created,
                    "model": self.heading.model,
                }
            )
            head = b'data: %b,"choices":[{"index":%d,%b' % (start[:-1], index, opening.encode())
            self._heads[index] = head
        return head

    def _end(self, answer: Answer, delta: Delta, prompt: int) -> bytes:
        """An event from the end of its choice."""
        end = b"}]"
        if self.shown.continuous_usage:
            usage = Usage(len(self.prompts[prompt]), answer.taken)
            end += b',"usage":%b' % orjson.dumps({**usage.fields(nulls=False), **self.event_usage})
        if delta.finished and not self.shown.usage:
            end += b',"system_fingerprint":%b' % orjson.dumps(self.heading.fingerprint)
        return end + b"}\n\n"

    def _token_ids(self, delta: Delta) -> list[int] | None:
        return delta.token_ids if self.shown.token_ids else None


class ChatWire(Wire):
    """`/v1/chat/completions`."""

    event_object = "chat.completion.chunk"
    answer_object = "chat.completion"
    event_usage: ClassVar[Mapping[str, None]] = {"completion_tokens_details": None}

    def internal_id(self, index: int) -> str:
        """Choices of a chat are numbered only where there are several."""
        return f"{index}_{self.heading.id}" if index else self.heading.id

    def opening(self, choices: int) -> bytes:
        [prompt] = self.prompts
        events = []
        for index in range(choices):
            event: dict[str, Any] = {
                "id": self.heading.id,
                "object": self.event_object,
                "created": self.heading.created,
                "model": self.heading.model,
                "choices": [
                    {
                        "index": index,
                        "delta": {"role": "assistant", "content": ""},
                        "logprobs": None,
                        "finish_reason": None,
                    }
                ],
            }
            if self.shown.continuous_usage:
                event["usage"] = {**Usage(len(prompt)).fields(nulls=False), **self.event_usage}
            event["prompt_token_ids"] = list(prompt) if self.shown.token_ids else None
            event["prompt_text"] = None
            events.append(self._data(event))
        return b"".join(events)

    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        head = self._head(answer.index, '"delta":{"content":')
        text = orjson.dumps(delta.text)
        if self.shown.logprobs is None and not self.shown.token_ids and not delta.finished:
            if not self.shown.continuous_usage:
                return b'%b%b},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n' % (head, text)
            found = b"null"
        else:
            found = orjson.dumps(self._logprobs(answer, delta))
        if delta.finished:
            reason = b'%b,"stop_reason":%b' % (
                orjson.dumps(answer.ending.reason),
                orjson.dumps(answer.ending.stopped_by),
            )
        else:
            reason = b"null"
        return b'%b%b},"logprobs":%b,"finish_reason":%b,"token_ids":%b%b' % (
            head,
            text,
            found,
            reason,
            orjson.dumps(self._token_ids(delta)),
            self._end(answer, delta, prompt),
        )

    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:  # noqa: ARG002
        return {
            "index": answer.index,
            "message": assistant_message(delta.text),
            "logprobs": self._logprobs(answer, delta),
            "finish_reason": answer.ending.reason,
            "stop_reason": answer.ending.stopped_by,
            "token_ids": self._token_ids(delta),
            "routed_experts": None,
        }

    def _logprobs(self, answer: Answer, delta: Delta) -> dict[str, Any] | None:
        if self.shown.logprobs is None:
            return None
        stop = answer.sequence.prompt_tokens + answer.taken
        return logprobs.chat_logprobs(
            answer.sequence,
            stop - len(delta.token_ids),
            stop,
            self.shown.logprobs,
            as_ids=self.shown.logprobs_as_ids,
        )

    def _prompt_fields(self) -> dict[str, Any]:
        return {
            "prompt_logprobs": None,
            "prompt_token_ids": list(self.prompts[0]) if self.shown.token_ids else None,
            "prompt_text": None,
        }


def assistant_message(content: str) -> dict[str, Any]:
    """A whole answer's message."""
    return {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }


class CompletionWire(Wire):
    """`/v1/completions`."""

    event_object = "text_completion"
    answer_object = "text_completion"

    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        head = self._head(answer.index, '"text":')
        first = answer.taken == len(delta.token_ids)
        echoed = self._echo(prompt) if first else ""
        ids = self._token_ids(delta)
        found = self._logprobs(answer, delta, echo=first and self.shown.echo)
        return (
            b'%b%b,"logprobs":%b,"finish_reason":%b,"stop_reason":%b,"prompt_token_ids":%b,"token_ids":%b%b'
            % (
                head,
                orjson.dumps(echoed + delta.text),
                b"null" if found is None else orjson.dumps(found),
                orjson.dumps(answer.ending.reason) if delta.finished else b"null",
                orjson.dumps(answer.ending.stopped_by) if delta.finished else b"null",
                orjson.dumps(list(self.prompts[prompt]))
                if first and (ids is not None or self.shown.echo)
                else b"null",
                b"null" if ids is None else orjson.dumps(ids),
                self._end(answer, delta, prompt),
            )
        )

    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:
        return {
            "index": answer.index,
            "text": self._echo(prompt) + delta.text,
            "logprobs": self._logprobs(answer, delta, echo=self.shown.echo),
            "finish_reason": answer.ending.reason,
            "stop_reason": answer.ending.stopped_by,
            "token_ids": self._token_ids(delta),
            "prompt_logprobs": None,
            "prompt_token_ids": list(self.prompts[prompt]) if self.shown.token_ids else None,
            "routed_experts": None,
        }

    def _echo(self, prompt: int) -> str:
        """The prompt's text before the answer; with token ids asked for, vLLM leaves it out."""
        if not self.shown.echo or self.shown.token_ids:
            return ""
        return decode(self.prompts[prompt])

    def _logprobs(self, answer: Answer, delta: Delta, *, echo: bool) -> dict[str, Any] | None:
        if self.shown.logprobs is None:
            return None
        stop = answer.sequence.prompt_tokens + answer.taken
        return logprobs.completion_logprobs(
            answer.sequence,
            0 if echo else stop - len(delta.token_ids),
            stop,
            self.shown.logprobs,
            as_ids=self.shown.logprobs_as_ids,
        )
