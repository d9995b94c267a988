"""The upstream legs of one attempt: one exchange, or two that fail, time out and are cancelled together."""

from dataclasses import dataclass
from math import inf
from typing import Protocol

import orjson

from pointsman.core.decisions import Dispatch, Reject
from pointsman.core.instances import InstanceId
from pointsman.http.client import Exchange, ExchangeError, Failure, Headers, Receiver
from pointsman.router.answers import AnswerError, WholeAnswer
from pointsman.router.call import Call
from pointsman.router.connectors.connector import Connector, Pairing
from pointsman.router.connectors.registry import CONNECTORS
from pointsman.router.fleet import Fleet, Upstream
from pointsman.router.ids import Ids

_HEAD = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n"


@dataclass(slots=True)
class LegFailure:
    """Why an attempt came to nothing."""

    instance: InstanceId | None
    """Whom to leave out of the next attempt; None: nobody is to blame."""
    failure: str
    """A `Failure`, or `status` where the engine answered with an error."""
    message: str
    status: int = 0
    """What the engine answered."""
    engine_error: bytes = b""
    """Its own error object, where it sent one."""


class Legs(Protocol):
    """One attempt under way: an `Exchange`, or `SplitLegs`."""

    def abort(self) -> None:
        """Every leg; nothing is told any more."""

    def pause(self) -> None:
        """Read no more of the answer for now."""

    def resume(self) -> None: ...


class LegOwner(Receiver, Protocol):
    """The session: receiver of the leg that answers."""

    def prefill_ended(self, prompt_tokens: int) -> None:
        """The prompt's KV exists. 0 tokens: the engine did not count them."""

    def choose_decode(self) -> Dispatch | Reject:
        """Where the answer shall come from, now that prefill has ended."""

    def engine_refused(self, status: int, body: bytes) -> None:
        """Prefill refuses the request itself, and that is the answer."""

    def attempt_failed(self, failure: LegFailure) -> None: ...


@dataclass(init=False, slots=True)
class Attempt:
    """One dispatch being carried out."""

    id: str
    """Fresh and unguessable, shared by the legs, never the client's."""
    ids: Ids
    call: Call
    owner: LegOwner
    fleet: Fleet
    deadline_s: float
    """When nobody wants the answer any more, on the pools' clock."""
    answering: InstanceId | None
    """Who answers, once that leg is sent."""

    def __init__(
        self,
        attempt_id: str,
        ids: Ids,
        call: Call,
        owner: LegOwner,
        fleet: Fleet,
        deadline_s: float,
    ) -> None:
        self.id = attempt_id
        self.ids = ids
        self.call = call
        self.owner = owner
        self.fleet = fleet
        self.deadline_s = deadline_s
        self.answering = None

    def open(self, dispatch: Dispatch) -> Legs:
        """Send what can be sent now. Raises InstanceGoneError."""
        if dispatch.prefill is None:
            if dispatch.decode is None:
                raise InstanceGoneError(None)
            return self.answer_from(self.upstream(dispatch.decode), self.call.raw)
        prefill = self.upstream(dispatch.prefill)
        decode = None if dispatch.decode is None else self.upstream(dispatch.decode)
        return SplitLegs(self, prefill, decode, CONNECTORS[prefill.connector])

    def upstream(self, instance: InstanceId) -> Upstream:
        upstream = self.fleet.upstream(instance)
        if upstream is None:
            raise InstanceGoneError(instance)
        return upstream

    def answer_from(self, upstream: Upstream, body: bytes) -> Exchange:
        """Send the leg that answers."""
        self.answering = upstream.id
        return self.send(upstream, body, self.owner)

    def send(self, upstream: Upstream, body: bytes, receiver: Receiver) -> Exchange:
        key = upstream.authorization
        authorization = b"authorization: %b\r\n" % key if key else b""
        path = self.call.endpoint.encode()
        head = _HEAD % (path, upstream.pool.authority, authorization, self.id.encode(), len(body))
        timeouts = None if self.deadline_s == inf else upstream.pool.timeouts_until(self.deadline_s)
        return upstream.pool.send(head, body, receiver, timeouts=timeouts)


class InstanceGoneError(Exception):
    """An instance that was chosen is no longer there."""

    def __init__(self, instance: InstanceId | None) -> None:
        super().__init__("the instance that was chosen is gone")
        self.instance = instance


class SplitLegs:
    """Prefill on one instance and decode on another: one after the other, or at once, as the connector wants it."""

    __slots__ = (
        "_answer",
        "_attempt",
        "_body",
        "_connector",
        "_decode",
        "_pairing",
        "_paused",
        "_prefill",
        "_source",
        "_status",
    )

    def __init__(
        self, attempt: Attempt, prefill: Upstream, decode: Upstream | None, connector: Connector
    ) -> None:
        self._attempt = attempt
        self._connector = connector
        self._source = prefill
        self._decode = decode
        self._body = WholeAnswer()
        self._status = 0
        self._paused = False
        self._answer: Exchange | None = None
        self._pairing = Pairing(
            attempt.id, attempt.ids.room(), prefill.bootstrap_host, prefill.bootstrap_port, prefill.engine_id
        )
        call = attempt.call
        leg = connector.prefill(call.raw, call.body, self._pairing)
        self._prefill: Exchange | None = attempt.send(prefill, leg, self)
        if connector.at_once and decode is not None:
            self._send_decode(decode, None)

    # Legs

    def abort(self) -> None:
        prefill, self._prefill = self._prefill, None
        answer, self._answer = self._answer, None
        if prefill is not None:
            prefill.abort()
        if answer is not None:
            answer.abort()

    def pause(self) -> None:
        self._paused = True
        if self._answer is not None:
            self._answer.pause()

    def resume(self) -> None:
        self._paused = False
        if self._answer is not None:
            self._answer.resume()

    # Receiver of the prefill leg

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        if self._connector.at_once and self._status == 200:
            return  # both legs answer the same; decode's goes to the client
        try:
            self._body.feed(data)
        except AnswerError as error:
            self._fail(Failure.TOO_LARGE, str(error))

    def on_end(self) -> None:
        self._prefill = None
        owner, instance = self._attempt.owner, self._source.id
        if self._status != 200:
            if engine_is_to_blame(self._status):
                self._fail("status", f"prefill answered {self._status}", self._status)
            else:
                self.abort()
                self._attempt.fleet.succeeded(instance)
                owner.engine_refused(self._status, self._body.body())
            return
        self._attempt.fleet.succeeded(instance)
        if self._connector.at_once:
            owner.prefill_ended(0)
            return
        answer = _object(self._body.body())
        if answer is None:
            self._fail(Failure.PROTOCOL, "prefill's answer is no JSON object")
            return
        usage = answer.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        try:
            decode = self._decode or self._choose_decode()
        except InstanceGoneError as error:
            owner.attempt_failed(LegFailure(error.instance, "gone", str(error)))
            return
        if decode is not None:
            owner.prefill_ended(tokens if isinstance(tokens, int) else 0)
            self._send_decode(decode, answer.get("kv_transfer_params"))

    def on_error(self, error: ExchangeError) -> None:
        self._prefill = None
        self._fail(error.failure, str(error))

    def _choose_decode(self) -> Upstream | None:
        """Where to go on, asked while the view still knows where prefill ran. None: nowhere, and the owner knows."""
        chosen = self._attempt.owner.choose_decode()
        if isinstance(chosen, Reject) or chosen.decode is None:
            self._attempt.owner.attempt_failed(LegFailure(None, "no_decode", chosen.why))
            return None
        return self._attempt.upstream(chosen.decode)

    def _send_decode(self, decode: Upstream, params: object) -> None:
        leg = self._connector.decode(self._attempt.call.raw, self._pairing, params)
        self._answer = self._attempt.answer_from(decode, leg)
        if self._paused:
            self._answer.pause()

    def _fail(self, failure: str, message: str, status: int = 0) -> None:
        self.abort()
        self._attempt.owner.attempt_failed(LegFailure(self._source.id, failure, message, status))


def engine_is_to_blame(status: int) -> bool:
    """Whether another instance might answer otherwise: not where the request itself is refused."""
    return status >= 500 or status < 400 or status in {401, 403, 408, 429}


def _object(data: bytes) -> dict[str, object] | None:
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
