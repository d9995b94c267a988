"""What clients are sent besides engines' own answers: status lines, error objects, error events."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

import orjson


class Reason(StrEnum):
    """Values of `x-pointsman-reason`. core's RejectReason values belong to the vocabulary, too."""

    MALFORMED = "malformed"
    """Not an HTTP request as we accept it."""
    TOO_SLOW = "too_slow"
    """The request did not arrive in time."""
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    METHOD = "method_not_allowed"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    INVALID = "invalid_request"
    FIELD = "forbidden_field"
    """A field that only the router may set."""
    MODEL_NOT_FOUND = "model_not_found"
    TOO_LONG = "context_length_exceeded"
    OVERLOADED = "overloaded"
    """As many requests as may be are in the router, or in the tenant's share of it."""
    UNREACHABLE = "upstream_unreachable"
    TIMEOUT = "upstream_timeout"
    BROKEN = "upstream_broken"
    """The engine's answer broke off, or was none."""
    ERROR = "upstream_error"
    """The engine answered with an error."""
    REFUSED = "upstream_refused"
    """The engine found fault with the request; the error is its own."""
    BUSY = "upstream_busy"
    """The engine asked us to come back later."""
    CLIENT_GONE = "client_gone"


_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
)
STATUS_LINES: Mapping[int, bytes] = MappingProxyType(
    {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error, to be sent as a response or, after the first byte, as an event."""

    status: int
    reason: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    allow: bytes = b""
    """Methods, with status 405."""
    engine_error: bytes = b""
    """An engine's own error object, passed on instead of one of ours."""

    def body(self) -> bytes:
        """OpenAI's error object."""
        if self.engine_error:
            return self.engine_error
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.reason}
        return orjson.dumps({"error": error})

    def head(self, request_id: bytes = b"") -> bytes:
        """Status line and headers, without framing headers."""
        lines = [
            status_line(self.status),
            b"content-type: application/json\r\n",
            b"x-pointsman-reason: ", self.reason.encode(), b"\r\n",
        ]  # fmt: skip
        if request_id:
            lines += (b"x-request-id: ", request_id, b"\r\n")
        if self.retry_after_s is not None:
            lines.append(b"retry-after: %d\r\n" % max(1, round(self.retry_after_s)))
        if self.allow:
            lines += (b"allow: ", self.allow, b"\r\n")
        if self.status == 401:
            lines.append(b"www-authenticate: Bearer\r\n")
        return b"".join(lines)

    def event(self) -> bytes:
        """The last event of a stream that has begun."""
        return b"data: " + self.body().replace(b"\n", b" ") + b"\n\n"


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
