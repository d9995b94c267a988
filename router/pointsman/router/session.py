"""One request between client and engines.

The session owns what the client sees: ids, the head of the answer, what was passed on and how it ended. Its legs come
and go: a retry is a change of legs, and so will be moving a running answer to another instance.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from pointsman.core.decisions import Dispatch, Reject
from pointsman.core.events import Progress
from pointsman.core.instances import InstanceId
from pointsman.core.requests import RequestView
from pointsman.http.client import ExchangeError, Failure, Headers
from pointsman.router.answers import AnswerError, RelayedStream, Stream, TrackedStream, WholeAnswer, usage_of
from pointsman.router.brain import Brain
from pointsman.router.call import Call
from pointsman.router.failures import error_answer, is_retried, rejected
from pointsman.router.fleet import Fleet
from pointsman.router.front import ClientConnection
from pointsman.router.legs import Attempt, InstanceGoneError, LegFailure, Legs, engine_is_to_blame
from pointsman.router.metrics import ModelMetrics
from pointsman.router.wire import ErrorAnswer, Reason, status_line

log = logging.getLogger(__name__)

CLIENT_GONE_STATUS = 499
"""What nginx logs for it; nobody is sent it."""
PROGRESS_TOKENS = 64
PROGRESS_S = 1.0
"""The view hears of a stream's tokens at most so often."""
_OK = status_line(200)


class Host(Protocol):
    """What sessions need of the gateway."""

    brain: Brain
    fleet: Fleet
    tracked: bool
    """Whether streams are tracked; else they are relayed."""
    retry_after_s: float

    def clock(self) -> float: ...

    def attempt(self, session: "Session") -> Attempt:
        """A new attempt, with an id of its own, which the session's view then carries."""

    def pause_before(self, retry: int) -> float | None:
        """Seconds to wait before a retry, 1 being the first; None: there shall be no more."""

    def ended(self, session: "Session", prompt_tokens: int) -> None:
        """The session is over. `prompt_tokens` as counted by the engine, 0: not counted."""


class Session:
    """Submits a call, carries the decision out, passes the answer on. Receiver of the leg that answers.

    Until the first byte has gone to the client a failed attempt is made anew, elsewhere; after it, a failure is an
    error event and the end.
    """

    __slots__ = (
        "_attempt",
        "_begun",
        "_content_type",
        "_decision",
        "_ended",
        "_first_token_s",
        "_full",
        "_host",
        "_last_failure",
        "_last_s",
        "_legs",
        "_placed",
        "_prefilled",
        "_progress_s",
        "_progress_tokens",
        "_prompt_tokens",
        "_retries",
        "_retry_timer",
        "_status",
        "_stream",
        "_submitted_s",
        "_whole",
        "arrived_s",
        "call",
        "client",
        "explain",
        "metrics",
        "prompt_bytes",
        "request_id",
        "view",
    )  # fmt: skip

    def __init__(
        self,
        host: Host,
        client: ClientConnection,
        call: Call,
        view: RequestView,
        metrics: ModelMetrics,
        request_id: bytes,
    ) -> None:
        """`request_id` is the one that the client sees and logs show; engines get others."""
        self._host = host
        self.client = client
        self.call = call
        self.view = view
        self.metrics = metrics
        self.request_id = request_id
        self.prompt_bytes = 0
        self.explain = False
        self.arrived_s = view.arrived_s
        self._attempt: Attempt | None = None
        self._decision: Dispatch | None = None
        self._legs: Legs | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._retries = 0
        self._placed = False
        self._ended = False
        self._full = False
        self._begun = False
        self._stream: Stream | None = None
        self._whole: WholeAnswer | None = None
        self._status = 0
        self._content_type = b""
        self._first_token_s = self._last_s = self._progress_s = 0.0
        self._progress_tokens = 0
        self._prompt_tokens = 0
        self._prefilled = False
        self._submitted_s = 0.0
        self._last_failure: ErrorAnswer | None = None

    def submit(self) -> None:
        """Ask for a decision; the answer may come at once, or later."""
        host = self._host
        self._retry_timer = None
        self._attempt = host.attempt(self)
        self._placed = True
        self._submitted_s = host.clock()
        host.brain.submit(self.view, self.on_decision)
        self._submitted_s = 0.0

    def on_decision(self, decision: Dispatch | Reject) -> None:
        """Carry it out."""
        attempt, now_s = self._attempt, self._host.clock()
        if attempt is None or self._ended:
            return
        if self._submitted_s:  # decided at once
            self.metrics.decided(now_s - self._submitted_s)
        if isinstance(decision, Reject):
            self._placed = False
            self._end_with(self._last_failure or rejected(decision))
            return
        self._decision = decision
        if not self._retries:
            self.metrics.started(now_s - self.arrived_s)
        try:
            self._legs = attempt.open(decision)
        except InstanceGoneError as error:
            self.attempt_failed(LegFailure(error.instance, "gone", str(error)))
            return
        if self._full:
            self._legs.pause()

    # Receiver of the leg that answers

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        for name, value in headers:
            if name == b"content-type":
                self._content_type = value
        if status == 200 and self.call.stream and self._content_type.startswith(b"text/event-stream"):
            tracked = self._host.tracked
            self._stream = TrackedStream(keep_usage=self.call.wants_usage) if tracked else RelayedStream()
        else:
            self._whole = WholeAnswer()

    def on_data(self, data: bytes) -> None:
        stream = self._stream
        try:
            if stream is None:
                if self._whole is not None:
                    self._whole.feed(data)
                return
            before = stream.output_tokens
            passed = stream.feed(data)
        except AnswerError as error:
            self._answer_failed(error)
            return
        tokens = stream.output_tokens
        if tokens > before:
            self._count(tokens, before)
        if passed:
            if self._begun:
                self.client.write(passed)
            else:
                self._begun = True
                self.client.begin(self._stream_head(), passed)

    def on_end(self) -> None:
        try:
            if self._stream is not None:
                rest = self._stream.finish()
                tokens = self._stream.counted_tokens or self._stream.output_tokens
                self._complete(self._stream.prompt_tokens, tokens, rest)
            elif self._whole is not None:
                body = self._whole.body()
                if self._status == 200:
                    prompt_tokens, output_tokens = usage_of(body)
                    self._complete(prompt_tokens, output_tokens, body)
                elif engine_is_to_blame(self._status):
                    self.attempt_failed(
                        LegFailure(
                            self._answering, "status", f"the engine answered {self._status}", self._status
                        )
                    )
                else:
                    self._succeeded()
                    self.engine_refused(self._status, body)
        except AnswerError as error:
            self._answer_failed(error)

    def on_error(self, error: ExchangeError) -> None:
        self.attempt_failed(LegFailure(self._answering, error.failure, str(error)))

    # Owner of the legs

    # (A prefill leg that runs beside the answer may end after it.)

    def prefill_ended(self, prompt_tokens: int) -> None:
        if not self._ended:
            self._prompt_tokens = prompt_tokens
            self._prefilled = True
            self._host.brain.prefill_ended(self.view.request_id)

    def choose_decode(self) -> Dispatch | Reject:
        chosen = self._host.brain.choose_decode(self.view.request_id)
        if isinstance(chosen, Dispatch):
            self._decision = chosen
        return chosen

    def engine_refused(self, status: int, body: bytes) -> None:
        """The engine finds fault with the request: its own words go to the client."""
        if not self._ended:
            self._abort_legs()
            self._end_with(ErrorAnswer(status, Reason.REFUSED, "", engine_error=body))

    def attempt_failed(self, failure: LegFailure) -> None:
        """Make another attempt, or tell the client."""
        if self._ended:
            return
        host = self._host
        self._abort_legs()
        self._leave_instances(completed=False)
        if failure.instance is not None:
            host.fleet.failed(failure.instance, failure.failure)
            self.view = replace(self.view, excluded=self.view.excluded | {failure.instance})
        self._last_failure = error_answer(failure, host.retry_after_s)
        pause_s = host.pause_before(self._retries + 1) if not self._begun and is_retried(failure) else None
        if pause_s is None:
            log.warning("%s: failed: %s", self.request_id.decode(), failure.message)
            self._end_with(self._last_failure)
            return
        log.info("%s: trying again: %s", self.request_id.decode(), failure.message)
        self._retries += 1
        self.metrics.retried(failure.failure)
        self._stream = self._whole = None
        self._content_type = b""
        self._prefilled = False
        self._retry_timer = asyncio.get_running_loop().call_later(pause_s, self.submit)

    # The client's side

    def on_client_gone(self) -> None:
        """Cancel both legs, or leave the queue."""
        if not self._ended:
            self._abort_legs()
            if self._retry_timer is not None:
                self._retry_timer.cancel()
            if self._placed:
                self._placed = False
                self._host.brain.withdraw(self.view.request_id)
            self._finish(CLIENT_GONE_STATUS, Reason.CLIENT_GONE, 0)

    def on_client_full(self) -> None:
        self._full = True
        if self._legs is not None:
            self._legs.pause()

    def on_client_ready(self) -> None:
        self._full = False
        if self._legs is not None:
            self._legs.resume()

    # Passing on

    @property
    def _answering(self) -> InstanceId | None:
        return None if self._attempt is None else self._attempt.answering

    def _count(self, tokens: int, before: int) -> None:
        """Some output tokens have come."""
        now_s = self._host.clock()
        if not before:
            self._first_token_s = self._last_s = self._progress_s = now_s
            self._progress_tokens = tokens
            self.metrics.first_token(now_s - self.arrived_s)
            if not self._prefilled:
                self._host.brain.prefill_ended(self.view.request_id)
            return
        self.metrics.gap(now_s - self._last_s, tokens - before)
        self._last_s = now_s
        if tokens - self._progress_tokens >= PROGRESS_TOKENS or now_s - self._progress_s >= PROGRESS_S:
            self._progress_s, self._progress_tokens = now_s, tokens
            self._host.brain.record(Progress(self.view.request_id, tokens))

    def _stream_head(self) -> bytes:
        return self._head(b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n")

    def _head(self, more: bytes) -> bytes:
        explained = b""
        if self.explain and self._decision is not None:
            words = self._decision.explain().encode("ascii", "replace")
            explained = b"x-pointsman-decision: %b\r\n" % words.translate(None, b"\r\n\0")
        return b"%b%bx-request-id: %b\r\n%b" % (_OK, more, self.request_id, explained)

    def _complete(self, prompt_tokens: int, output_tokens: int, last: bytes) -> None:
        self._succeeded()
        self._leave_instances(completed=True, output_tokens=output_tokens)
        prompt_tokens = prompt_tokens or self._prompt_tokens
        self.metrics.counted(prompt_tokens, output_tokens)
        if self._stream is not None:
            tpot_s = (self._last_s - self._first_token_s) / (output_tokens - 1) if output_tokens > 1 else None
            client = self.client
            self._finish(200, "", prompt_tokens, tpot_s)
            if not self._begun:
                client.begin(self._stream_head())
            client.end(last)
        else:
            self._finish(200, "", prompt_tokens)
            kind = self._content_type or b"application/json"
            self.client.respond(self._head(b"content-type: %b\r\n" % kind), last)

    def _answer_failed(self, error: AnswerError) -> None:
        """What the engine sent is no answer, or says that it failed."""
        if error.status < 500 and not self._begun:
            self._abort_legs()
            self._succeeded()
            self.engine_refused(error.status, error.engine_error)
            return
        kind, status = ("status", error.status) if error.engine_error else (Failure.PROTOCOL, 0)
        self.attempt_failed(LegFailure(self._answering, kind, str(error), status, error.engine_error))

    def _end_with(self, error: ErrorAnswer) -> None:
        """Tell the client that there is no answer, or no more of it."""
        self._leave_instances(completed=False)
        client, begun = self.client, self._begun
        self._finish(error.status, error.reason, 0)
        if begun:
            client.end(error.event())
        else:
            client.respond(error.head(self.request_id), error.body())

    def _succeeded(self) -> None:
        """The engine did its part, even where it found fault with the request."""
        answering = self._answering
        if answering is not None:
            self._host.fleet.succeeded(answering)

    def _abort_legs(self) -> None:
        legs, self._legs = self._legs, None
        if legs is not None:
            legs.abort()

    def _leave_instances(self, *, completed: bool, output_tokens: int = 0) -> None:
        if self._placed:
            self._placed = False
            self._host.brain.finished(self.view.request_id, completed=completed, output_tokens=output_tokens)

    def _finish(self, code: int, reason: str, prompt_tokens: int, tpot_s: float | None = None) -> None:
        """The end. Lets go of what refers back to it: a ring of objects per request is work for the collector."""
        self._ended = True
        self._attempt = self._legs = None
        self.metrics.finished(code, reason, self._host.clock() - self.arrived_s, tpot_s)
        self._host.ended(self, prompt_tokens)
