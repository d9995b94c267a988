"""One streamed answer: its tokens counted and timed as they arrive."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from pointsman.http.errors import ExchangeError
from pointsman.http.exchange import Exchange, Headers
from pointsman.http.sse import DONE, EventScanner, EventTooLongError, event_data
from pointsman.sim.report import Outcome

MAX_ERROR_BYTES = 64 * 1024
SHOWN_ERROR_CHARACTERS = 300


@dataclass(slots=True)
class Answer:
    """What came back for one request; times as the clock gave them, in seconds."""

    sent_s: float
    ended_s: float = 0.0
    outcome: Outcome = Outcome.UNFINISHED
    status: int | None = None
    """HTTP status; None: no response."""
    error: str | None = None
    decision: str | None = None
    """What the router said about its decision, where it was asked."""
    first_token_s: float | None = None
    last_token_s: float | None = None
    counted_tokens: int = 0
    """By token ids where events carry them, else one for each event with text."""
    completion_tokens: int | None = None
    """What the endpoint says in `usage`, as the next two."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    _gaps_s: list[float] = field(default_factory=list)

    @property
    def output_tokens(self) -> int:
        return self.counted_tokens if self.completion_tokens is None else self.completion_tokens

    @property
    def gaps_s(self) -> list[float]:
        """Between consecutive tokens. Where events hide how many tokens they carry, all events are taken to carry
        equally many.
        """
        hidden = (self.output_tokens - 1) / len(self._gaps_s) if self._gaps_s else 1.0
        return [gap_s / hidden for gap_s in self._gaps_s] if hidden > 1.0 else self._gaps_s

    def count(self, tokens: int, now_s: float) -> None:
        """`tokens` tokens have arrived together: they share the time since the last one."""
        if self.first_token_s is None or self.last_token_s is None:
            self.first_token_s = now_s
            self._gaps_s += [0.0] * (tokens - 1)
        elif tokens == 1:
            self._gaps_s.append(now_s - self.last_token_s)
        else:
            self._gaps_s += [(now_s - self.last_token_s) / tokens] * tokens
        self.last_token_s = now_s
        self.counted_tokens += tokens


class AnswerReceiver:
    """Receives one exchange's response, and calls `on_ended` once, when nothing more will come."""

    __slots__ = (
        "_clock",
        "_error_body",
        "_finished",
        "_on_ended",
        "_reason",
        "_scanner",
        "answer",
        "exchange",
    )

    def __init__(self, clock: Callable[[], float], on_ended: Callable[[Answer], None]) -> None:
        self.answer = Answer(sent_s=clock())
        self.exchange: Exchange | None = None
        """Set by whoever sends, so that a stream that goes wrong can be aborted."""
        self._clock = clock
        self._on_ended = on_ended
        self._scanner = EventScanner()
        self._error_body = b""
        self._finished = False
        self._reason = b""

    def on_head(self, status: int, headers: Headers) -> None:
        self.answer.status = status
        for name, value in headers:
            if name == b"x-pointsman-reason":
                self._reason = value
            elif name == b"x-pointsman-decision":
                self.answer.decision = value.decode("latin-1")

    def on_data(self, data: bytes) -> None:
        if self.answer.status != 200:
            self._error_body = (self._error_body + data)[:MAX_ERROR_BYTES]
            return
        now_s = self._clock()
        try:
            for event in self._scanner.feed(data):
                self._take(event, now_s)
        except (EventTooLongError, orjson.JSONDecodeError, _UnexpectedError) as error:
            if self.exchange is not None:
                self.exchange.abort()
            self._end(Outcome.FAILED, f"not a stream of completion chunks: {error}")

    def on_end(self) -> None:
        if self.answer.status != 200:
            refused = self.answer.status == 429 or (self.answer.status == 503 and self._reason)
            outcome = Outcome.REJECTED if refused else Outcome.FAILED
            self._end(outcome, error_message(self._error_body, self._reason))
        elif not self._finished:
            self._end(Outcome.FAILED, self.answer.error or "the stream ended before the answer did")
        else:
            self._end(Outcome.COMPLETED, None)

    def on_error(self, error: ExchangeError) -> None:
        self._end(Outcome.FAILED, f"{error.failure}: {error}")

    def stop(self) -> None:
        """Abort what is under way; the answer stays unfinished."""
        if self.exchange is not None:
            self.exchange.abort()
        self._end(Outcome.UNFINISHED, "interrupted")

    def _end(self, outcome: Outcome, error: str | None) -> None:
        answer = self.answer
        if answer.ended_s:
            return
        answer.outcome, answer.error, answer.ended_s = outcome, error, self._clock()
        self._on_ended(answer)

    def _take(self, event: bytes, now_s: float) -> None:
        data = event_data(event)
        if data is None or data == DONE:
            return
        chunk = _object(orjson.loads(data))
        if "error" in chunk:
            self._finished = False
            self.answer.error = error_message(data, b"")
            return
        for choice in map(_object, chunk.get("choices") or ()):
            if tokens := _tokens_of(choice):
                self.answer.count(tokens, now_s)
            if choice.get("finish_reason") is not None and self.answer.error is None:
                self._finished = True
        if usage := chunk.get("usage"):
            self._take_usage(_object(usage))

    def _take_usage(self, usage: dict[str, Any]) -> None:
        answer = self.answer
        answer.completion_tokens = usage.get("completion_tokens")
        answer.prompt_tokens = usage.get("prompt_tokens")
        details = _object(usage.get("prompt_tokens_details") or {})
        answer.cached_tokens = details.get("cached_tokens")


class _UnexpectedError(Exception):
    """Not what an OpenAI endpoint sends."""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnexpectedError(f"{type(value).__name__} where an object belongs")
    return value


def _tokens_of(choice: dict[str, Any]) -> int:
    token_ids = choice.get("token_ids")
    if token_ids is not None:
        return len(token_ids)
    delta = choice.get("delta")
    if delta is None:
        return 1 if choice.get("text") else 0
    delta = _object(delta)
    spoken = (
        delta.get("content")
        or delta.get("reasoning_content")
        or delta.get("reasoning")
        or delta.get("tool_calls")
    )
    return 1 if spoken else 0


def error_message(body: bytes, reason: bytes) -> str:
    """The message of an OpenAI error object, else the beginning of what came."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    error = told.get("error", told) if isinstance(told, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else body.decode("utf-8", errors="replace")
    return " ".join(part for part in (reason.decode("latin-1"), text[:SHOWN_ERROR_CHARACTERS]) if part)
