"""What an engine answers, on its way to the client: whole, relayed or tracked.

Each kind is fed what one read of the engine's connection brought and gives what may go on to the client. None of them
does I/O.
"""

from typing import Any

import orjson

from pointsman.http.sse import DONE, EventScanner, EventTooLongError, event_data
from pointsman.router.event_template import TEXT_BYTES_PER_TOKEN, EventTemplate

MAX_WHOLE_BYTES = 64 << 20
_USAGE = b',"usage":{'
_ABORTED = b'"abort"'


ABORT = "abort"
"""A finish reason that is no success: vLLM gives requests up that reach it after SIGTERM, or as it falls asleep."""
GIVEN_UP = "the engine gave the request up"


class AnswerError(Exception):
    """The answer is none, or says that it failed. `engine_error`: the engine's own error object, as JSON."""

    def __init__(self, message: str, engine_error: bytes = b"", status: int = 502) -> None:
        super().__init__(message)
        self.engine_error = engine_error
        self.status = status


class RelayedStream:
    """Bytes through. Knows event boundaries, errors and the end, and nothing else."""

    __slots__ = ("_done", "_scanner", "counted_tokens", "output_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self._scanner = EventScanner()
        self._done = False
        self.output_tokens = 0
        """So far, as far as it can be told from the events."""
        self.counted_tokens = 0
        """As the engine counted them; 0: it has not said."""
        self.prompt_tokens = 0
        """0: the engine has not said."""

    def feed(self, data: bytes) -> bytes:
        """What goes to the client: whole events only. Raises AnswerError."""
        try:
            events = self._scanner.feed(data)
        except EventTooLongError as error:
            raise AnswerError(str(error)) from None
        for event in events:
            # An error is an event of its own; its key comes first or after "object".
            if b'"error"' in event[:64]:
                parsed = _object(event_data(event))
                if parsed is not None and parsed.get("error") and "choices" not in parsed:
                    raise engine_error(parsed)
            if b"[DONE]" in event[:16]:
                if not self.output_tokens:
                    raise AnswerError("the stream was done before it had begun")
                self._done = True
            else:
                self.output_tokens += 1
        return events[0] if len(events) == 1 else b"".join(events)

    def finish(self) -> bytes:
        """The stream has ended: anything that is left for the client. Raises AnswerError if it broke off."""
        if not self._done:
            raise AnswerError("the stream ended before it was done")
        return self._scanner.take_rest()


class TrackedStream:
    """Every event is parsed once, or known to differ from a parsed one in its text alone. Owns the answer's position: finish reasons, token ids and usage.

    One event may carry several tokens, so tokens are counted by their ids or by the engine's usage, and estimated
    from the text where there is neither.
    """

    __slots__ = (
        "_done",
        "_finished",
        "_keep_usage",
        "_scanner",
        "_template",
        "counted_tokens",
        "output_tokens",
        "prompt_tokens",
    )

    def __init__(self, *, keep_usage: bool) -> None:
        """`keep_usage`: whether the client asked for the last event, the one with usage and no choices."""
        self._scanner = EventScanner()
        self._template = EventTemplate()
        self._keep_usage = keep_usage
        self._done = False
        self._finished = False
        self.output_tokens = 0
        self.counted_tokens = 0
        self.prompt_tokens = 0

    def feed(self, data: bytes) -> bytes:
        """As RelayedStream's, without events that are not for the client."""
        if self._scanner.pending:
            return self._read(data)
        known = self._template.known(data)
        self.output_tokens += self._template.tokens
        if known == len(data):
            return data
        return data[:known] + self._read(data[known:]) if known else self._read(data)

    def _read(self, data: bytes) -> bytes:
        try:
            events = self._scanner.feed(data)
            if len(events) == 1:
                return events[0] if self._track(events[0]) else b""
            return b"".join([event for event in events if self._track(event)])
        except EventTooLongError as error:
            raise AnswerError(str(error)) from None
        except orjson.JSONDecodeError:
            raise AnswerError("an event of the engine's is no JSON") from None
        except (AttributeError, TypeError):
            raise AnswerError("an event of the engine's has not the shape it must have") from None

    def finish(self) -> bytes:
        if not self._done:
            raise AnswerError("the stream ended before it was done")
        return self._scanner.take_rest()

    def _track(self, event: bytes) -> bool:
        """Take one event in; whether it is for the client."""
        data = event_data(event)
        if data is None:
            return True
        if data == DONE:
            if not self._finished:
                raise AnswerError("the stream ended without a finish reason")
            self._done = True
            return True
        parsed = orjson.loads(data)
        choices = parsed.get("choices")
        if choices:
            for choice in choices:
                self._choose(choice)
        elif parsed.get("error"):
            raise engine_error(parsed)
        usage = parsed.get("usage")
        if usage:
            self._count(usage)
            return bool(choices) or self._keep_usage
        if choices and len(choices) == 1 and not self._finished:
            self._template.learn(event, parsed, choices[0])
        return True

    def _choose(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if reason is not None:
            if reason == ABORT:
                raise AnswerError(GIVEN_UP)
            self._finished = True
        ids = choice.get("token_ids")
        if ids:
            self.output_tokens += len(ids)
            return
        delta = choice.get("delta")
        if delta:
            text = delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls")
        else:
            text = choice.get("text")
        if text:
            size = len(text.encode()) if type(text) is str else len(text)
            self.output_tokens += size // TEXT_BYTES_PER_TOKEN or 1

    def _count(self, usage: dict[str, Any]) -> None:
        prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(prompt) is int:
            self.prompt_tokens = prompt
        if type(output) is int:
            self.counted_tokens = output


Stream = RelayedStream | TrackedStream
"""A streamed answer."""


class WholeAnswer:
    """An answer that is not streamed, gathered until it is complete."""

    __slots__ = ("_chunks", "_length")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> None:
        self._length += len(data)
        if self._length > MAX_WHOLE_BYTES:
            raise AnswerError(f"an answer of more than {MAX_WHOLE_BYTES} bytes")
        self._chunks.append(data)

    def body(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


def usage_of(body: bytes) -> tuple[int, int]:
    """Prompt and output tokens that a whole answer says it took, 0 where it does not. Raises AnswerError."""
    answer = _tail_with_usage(body) or _object(body)
    if answer is None:
        raise AnswerError("the engine's answer is no JSON object")
    choices = answer.get("choices")
    if type(choices) is list:
        for choice in choices:
            if type(choice) is dict and choice.get("finish_reason") == ABORT:
                raise AnswerError(GIVEN_UP)
    usage = answer.get("usage")
    if type(usage) is not dict:
        return 0, 0
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return prompt if type(prompt) is int else 0, output if type(output) is int else 0


def _tail_with_usage(body: bytes) -> dict[str, Any] | None:
    """The members of an answer from its last "usage" on; None: it must be parsed whole.

    Texts come before usage, so this is a tenth of the answer. One that may have been given up is parsed whole. What looks like a member named "usage" is one, because a
    quote within a string is escaped; and it is the outermost object's own, because what follows it closes just one brace.
    """
    at = body.rfind(_USAGE)
    if at < 0 or not body.startswith(b"{") or body.find(_ABORTED) >= 0:
        return None
    return _object(b"{" + body[at + 1 :])


def engine_error(parsed: dict[str, Any]) -> AnswerError:
    """An error event of an engine's. vLLM and SGLang put the HTTP status into `code`."""
    error = parsed["error"]
    code = error.get("code") if type(error) is dict else None
    status = code if type(code) is int and 400 <= code < 600 else 502
    return AnswerError("the engine reported an error", orjson.dumps({"error": error}), status)


def _object(data: bytes | None) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return parsed if type(parsed) is dict else None
