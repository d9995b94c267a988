"""Answers in SGLang's shape (0.5), where it differs from vLLM's: `matched_stop`, no token ids, an empty last delta."""

from typing import Any

import orjson

from pointsman.simengine.answers import Answer, Delta
from pointsman.simengine.errors import ApiError
from pointsman.simengine.wire import ChatWire, CompletionWire, Usage, Wire

_METADATA = {"weight_version": "default"}


def sglang_error(error: ApiError) -> dict[str, Any]:
    """SGLang's error object has no envelope."""
    return {
        "object": "error",
        "message": str(error),
        "type": error.kind,
        "param": error.param,
        "code": error.status,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    cached = usage.cached_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


class _SglangWire(Wire):
    def usage_event(self, usage: Usage) -> bytes:
        return self._data({**self._start(), "choices": [], "usage": _usage(usage)})

    def error_event(self, error: ApiError) -> bytes:
        return self._data({"error": sglang_error(error)})

    def whole(self, choices: list[dict[str, Any]], usage: Usage, kv_params: dict[str, Any] | None) -> bytes:  # noqa: ARG002
        answer = {**self._start(), "object": self.answer_object, "choices": choices}
        return orjson.dumps({**answer, "usage": _usage(usage), "metadata": _METADATA})

    def _start(self) -> dict[str, Any]:
        return {
            "id": self.heading.id,
            "object": self.event_object,
            "created": self.heading.created,
            "model": self.heading.model,
        }

    def _event(self, choice: dict[str, Any], answer: Answer, prompt: int) -> bytes:
        usage = None
        if self.shown.continuous_usage:
            usage = _usage(Usage(len(self.prompts[prompt]), answer.taken))
        return self._data({**self._start(), "choices": [choice], "usage": usage})


class SglangChatWire(_SglangWire, ChatWire):
    """`/v1/chat/completions`."""

    def opening(self, choices: int) -> bytes:
        return b"".join(
            self._data(
                {
                    **self._start(),
                    "choices": [self._choice(index, role="assistant", content="")],
                    "usage": None,
                }
            )
            for index in range(choices)
        )

    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        found = self._logprobs(answer, delta)
        events = self._event(self._choice(answer.index, content=delta.text, logprobs=found), answer, prompt)
        if delta.finished:
            ending = answer.ending
            last = self._choice(answer.index, finish_reason=ending.reason, matched_stop=ending.stopped_by)
            events += self._event(last, answer, prompt)
        return events

    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:  # noqa: ARG002
        return {
            "index": answer.index,
            "message": {"role": "assistant", "content": delta.text, "reasoning_content": None},
            "logprobs": self._logprobs(answer, delta),
            "finish_reason": answer.ending.reason,
            "matched_stop": answer.ending.stopped_by,
        }

    @staticmethod
    def _choice(
        index: int,
        *,
        role: str | None = None,
        content: str | None = None,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        matched_stop: int | str | None = None,
    ) -> dict[str, Any]:
        return {
            "index": index,
            "delta": {"role": role, "content": content, "reasoning_content": None},
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "matched_stop": matched_stop,
        }


class SglangCompletionWire(_SglangWire, CompletionWire):
    """`/v1/completions`."""

    def event(self, answer: Answer, prompt: int, delta: Delta) -> bytes:
        first = answer.taken == len(delta.token_ids)
        return self._event(self._one(answer, prompt, delta, first=first), answer, prompt)

    def choice(self, answer: Answer, prompt: int, delta: Delta) -> dict[str, Any]:
        return self._one(answer, prompt, delta, first=True)

    def _one(self, answer: Answer, prompt: int, delta: Delta, *, first: bool) -> dict[str, Any]:
        echoed = self._echo(prompt) if first else ""
        choice: dict[str, Any] = {
            "index": answer.index,
            "text": echoed + delta.text,
            "logprobs": self._logprobs(answer, delta, echo=first and self.shown.echo),
            "finish_reason": answer.ending.reason if delta.finished else None,
            "matched_stop": answer.ending.stopped_by if delta.finished else None,
        }
        if self.shown.token_ids:
            choice["token_ids"] = delta.token_ids
            if first:
                choice["prompt_token_ids"] = list(self.prompts[prompt])
        return choice
