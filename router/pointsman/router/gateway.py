"""The OpenAI API: which request is answered how, and by whom it may be sent."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

import orjson

from pointsman.core.requests import RequestView
from pointsman.core.slo import Slo
from pointsman.http.head import RequestHead
from pointsman.router.brain import Brain
from pointsman.router.call import (
    REQUEST_ID,
    Call,
    ForbiddenFieldError,
    PromptTooLongError,
    read_call,
    refuse_headers,
)
from pointsman.router.fleet import Fleet
from pointsman.router.front import ClientConnection
from pointsman.router.ids import Ids
from pointsman.router.legs import Attempt
from pointsman.router.metrics import RouterMetrics
from pointsman.router.prompts import Endpoint, Prompt, PromptReader
from pointsman.router.refusals import BadRequestError, ForbiddenError, RefusalError, UnauthorizedError
from pointsman.router.session import Session
from pointsman.router.settings import ServedModel, Settings
from pointsman.router.tenants import OBJECTIVE_HEADERS, Objectives, Tenant, Tenants
from pointsman.router.wire import ErrorAnswer, Reason, status_line

MODELS = b"/v1/models"
LEARN_EVERY_S = 0.001
"""Under load a sample of the answers teaches the estimates as well as all of them, at a tenth of the cost."""
_ENDPOINTS: Mapping[bytes, Endpoint] = MappingProxyType(
    {endpoint.encode(): endpoint for endpoint in Endpoint}
)
_JSON_OK = status_line(200) + b"content-type: application/json\r\n"


class OverloadedError(Exception):
    """As many requests as may be are being answered."""


class Admission:
    """A request whose head is in order, and what its head says. No endpoint: it asks for models.

    A connection keeps its last one: while heads and settings stay the same, so does all of this.
    """

    __slots__ = ("asks", "endpoint", "explain", "headers", "model", "request_id", "settings", "tenant")

    def __init__(
        self,
        endpoint: Endpoint | None,
        tenant: Tenant,
        head: RequestHead,
        settings: Settings,
        model: str = "",
    ) -> None:
        headers = head.headers
        self.endpoint = endpoint
        self.tenant = tenant
        self.model = model
        self.headers = headers
        self.settings = settings
        self.asks = not OBJECTIVE_HEADERS.isdisjoint(headers)
        """Whether it asks for objectives of its own."""
        self.request_id = _given_id(headers)
        """The client's own, if it is harmless; else empty."""
        self.explain = tenant.may_explain and headers.get(b"x-pointsman-explain") == b"1"


class Gateway:
    """Handler of the public port's requests and host of their sessions. Everything in it is synchronous."""

    def __init__(
        self,
        brain: Brain,
        fleet: Fleet,
        tenants: Tenants,
        prompts: PromptReader,
        metrics: RouterMetrics,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Random,
    ) -> None:
        self.brain = brain
        self.fleet = fleet
        self.clock = clock
        self._tenants = tenants
        self._prompts = prompts
        self._metrics = metrics
        self._rng = rng
        self._ids = Ids()
        self._started = int(time.time())
        self._in_flight = 0
        self._learn_at_s = 0.0
        self._by_tenant: dict[str, int] = {}
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Use other settings from now on; requests under way keep what they have read of the old ones."""
        self._settings = settings
        self.tracked = settings.tracked_sessions
        self.retry_after_s = settings.retry_after_s

    @property
    def in_flight(self) -> int:
        """Requests being answered."""
        return self._in_flight

    # Handler

    def admit(self, head: RequestHead, client: ClientConnection) -> Admission | None:
        known = client.remembered
        if (
            isinstance(known, Admission)
            and known.headers is head.headers
            and known.settings is self._settings
        ):
            overload = self._overload(known.tenant)
            if not overload:
                return known
            self._refuse(client, head, self._refusal(OverloadedError(overload)))
            return None
        path = head.target
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None:
            path = head.path
            endpoint = _ENDPOINTS.get(path)
        try:
            refuse_headers(head.headers)
            if endpoint is not None:
                if head.method != b"POST":
                    self._refuse(client, head, _wrong_method(b"POST"))
                    return None
                tenant = self._tenants.identify(head.headers, client.peer)
                self._check_room(tenant)
                client.remembered = admission = Admission(endpoint, tenant, head, self._settings)
                return admission
            if path == MODELS or path.startswith(MODELS + b"/"):
                if head.method != b"GET":
                    self._refuse(client, head, _wrong_method(b"GET"))
                    return None
                tenant = self._tenants.identify(head.headers, client.peer)
                return Admission(None, tenant, head, self._settings, path[len(MODELS) + 1 :].decode("ascii"))
        except (RefusalError, OverloadedError) as error:
            self._refuse(client, head, self._refusal(error))
            return None
        self._refuse(client, head, ErrorAnswer(404, Reason.NOT_FOUND, "there is nothing at this path"))
        return None

    def handle(self, admission: Admission, head: RequestHead, body: bytes, client: ClientConnection) -> None:
        endpoint, tenant = admission.endpoint, admission.tenant
        if endpoint is None:
            self._list_models(admission, head, client)
            return
        arrived_s = self.clock()
        try:
            call = read_call(endpoint, body, drop_forbidden=self._settings.drop_forbidden_fields)
            model = self._settings.models.get(call.model)
            if model is None:
                message = f"model {call.model[:128]!r} is not served here"
                self._refuse(client, head, ErrorAnswer(404, Reason.MODEL_NOT_FOUND, message, "model"))
                return
            if tenant.models and not tenant.may_use(model.name):
                raise ForbiddenError(f"model {call.model!r} is not yours to use")
            prompt = self._read_prompt(call, model, tenant)
            objectives = None
            if admission.asks:
                objectives = self._tenants.objectives(head.headers, tenant, model.slo, model.slo_classes)
            self._check_room(tenant)
        except (RefusalError, OverloadedError) as error:
            self._refuse(client, head, self._refusal(error))
            return
        if call.model != model.name:
            call.rename_model(model.name)
        if call.stream and self.tracked and not call.wants_usage:
            call.ask_for_usage()
        view = _view(call, tenant, prompt, objectives, model.slo, arrived_s)
        request_id = admission.request_id or self._ids.attempt().encode()
        session = Session(self, client, call, view, self._metrics.model(model.base), request_id)
        session.prompt_bytes = prompt.prompt_bytes
        session.explain = admission.explain
        client.session = session
        self._in_flight += 1
        self._by_tenant[tenant.name] = self._by_tenant.get(tenant.name, 0) + 1
        session.metrics.arrived()
        session.submit()

    def malformed(self, status: int, message: str, client: ClientConnection) -> None:
        reasons = {408: Reason.TOO_SLOW, 413: Reason.TOO_LARGE, 414: Reason.TOO_LARGE, 431: Reason.TOO_LARGE}
        error = ErrorAnswer(status, reasons.get(status, Reason.MALFORMED), message)
        client.respond(error.head(), error.body())

    # Host of sessions

    def attempt(self, session: Session) -> Attempt:
        attempt_id = self._ids.attempt()
        if session.view.request_id:
            session.view = replace(session.view, request_id=attempt_id)
        else:
            session.view.request_id = attempt_id
        return Attempt(attempt_id, self._ids, session.call, session, self.fleet, session.view.deadline_s)

    def pause_before(self, retry: int) -> float | None:
        retries = self._settings.retries
        if retry > retries.attempts:
            return None
        return self._rng.uniform(0.0, min(retries.backoff_s * 2.0 ** (retry - 1), retries.max_backoff_s))

    def ended(self, session: Session, prompt_tokens: int) -> None:
        self._in_flight -= 1
        tenant = session.view.tenant
        left = self._by_tenant[tenant] - 1
        if left:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
        if prompt_tokens and session.prompt_bytes:
            now_s = self.clock()
            if now_s >= self._learn_at_s:
                self._learn_at_s = now_s + LEARN_EVERY_S
                self._prompts.learn(session.call.model, session.prompt_bytes, prompt_tokens)

    # Reading

    def _read_prompt(self, call: Call, model: ServedModel, tenant: Tenant) -> Prompt:
        prompt = self._prompts.read(call.endpoint, call.body, tenant.name, model.name)
        if prompt.has_remote_media and not self._settings.allow_remote_media:
            raise BadRequestError("messages", "media must be sent as data URLs; others are not fetched here")
        if model.context_tokens and prompt.least_tokens > model.context_tokens:
            raise PromptTooLongError(model.context_tokens, model.base)
        return prompt

    def _check_room(self, tenant: Tenant) -> None:
        overload = self._overload(tenant)
        if overload:
            raise OverloadedError(overload)

    def _overload(self, tenant: Tenant) -> str:
        """Why a further request of this tenant's is one too many; empty: it is not."""
        if self._in_flight >= self._settings.limits.concurrent_requests:
            return "the router has as many requests as it may"
        if tenant.max_concurrent and self._by_tenant.get(tenant.name, 0) >= tenant.max_concurrent:
            return f"at most {tenant.max_concurrent} of your requests may run at once"
        return ""

    def _request_id(self, head: RequestHead) -> bytes:
        """The client's own, if it is harmless; else a new one."""
        return _given_id(head.headers) or self._ids.attempt().encode()

    # Answering

    def _refuse(self, client: ClientConnection, head: RequestHead, error: ErrorAnswer) -> None:
        metrics = self._metrics.model("")
        metrics.arrived()
        metrics.finished(error.status, error.reason, 0.0)
        client.respond(error.head(self._request_id(head)), error.body())

    def _refusal(self, error: RefusalError | OverloadedError) -> ErrorAnswer:
        if isinstance(error, OverloadedError):
            return ErrorAnswer(429, Reason.OVERLOADED, str(error), retry_after_s=self.retry_after_s)
        reason = Reason.INVALID
        if isinstance(error, UnauthorizedError):
            reason = Reason.UNAUTHORIZED
        elif isinstance(error, ForbiddenError):
            reason = Reason.FORBIDDEN
        elif isinstance(error, ForbiddenFieldError):
            reason = Reason.FIELD
        elif isinstance(error, PromptTooLongError):
            reason = Reason.TOO_LONG
        path = error.path if isinstance(error, BadRequestError) else ""
        return ErrorAnswer(error.status, reason, str(error), path or None)

    def _list_models(self, admission: Admission, head: RequestHead, client: ClientConnection) -> None:
        listed = {
            name: {"id": name, "object": "model", "created": self._started, "owned_by": "pointsman"}
            for name, model in self._settings.models.items()
            if admission.tenant.may_use(model.name)
        }
        if not admission.model:
            answer: object = {"object": "list", "data": list(listed.values())}
        elif admission.model in listed:
            answer = listed[admission.model]
        else:
            message = f"model {admission.model!r} is not served here"
            self._refuse(client, head, ErrorAnswer(404, Reason.MODEL_NOT_FOUND, message, "model"))
            return
        client.respond(_JSON_OK + b"x-request-id: %b\r\n" % self._request_id(head), orjson.dumps(answer))


def _given_id(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id")
    return given if given and REQUEST_ID.fullmatch(given) else b""


def _view(
    call: Call, tenant: Tenant, prompt: Prompt, objectives: Objectives | None, slo: Slo, arrived_s: float
) -> RequestView:
    """`slo` holds where the request has no objectives of its own."""
    view = RequestView(
        request_id="",
        model=call.model,
        prompt_tokens=prompt.estimated_tokens,
        arrived_s=arrived_s,
        block_hashes=prompt.block_hashes,
        block_tokens=prompt.block_tokens,
        tenant=tenant.name,
        max_output_tokens=call.max_output_tokens,
        slo=slo,
        may_split=call.may_split,
    )
    if objectives is not None:
        view.session, view.program = objectives.session, objectives.program
        view.priority, view.slo = objectives.priority, objectives.slo
        view.deadline_s = arrived_s + objectives.deadline_s
    return view


def _wrong_method(allowed: bytes) -> ErrorAnswer:
    return ErrorAnswer(405, Reason.METHOD, f"only {allowed.decode()} is allowed here", allow=allowed)
