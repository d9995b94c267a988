"""What goes wrong between this process and an API server, in words that name the call and what to do."""

from collections.abc import Mapping
from typing import Any


class KubeError(Exception):
    """Any failure of a call to the API server."""


class UnreachableError(KubeError):
    """No answer: not connected, cut off, or too slow."""


class AccessError(KubeError):
    """Credentials cannot be found or read."""


class ApiError(KubeError):
    """The API server answered with a Status that is no success."""

    def __init__(self, call: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{call}: {message or reason or 'no message'} (HTTP {status}){_advice(status)}")
        self.call = call
        """Verb and path."""
        self.status = status
        self.reason = reason
        """Machine-readable, as `metav1.StatusReason`; empty where the answer was no Status."""
        self.message = message
        self.retry_after_s: float | None = None


class NotFoundError(ApiError):
    """404: the object or its kind is not there."""


class ConflictError(ApiError):
    """It exists already, has another version, or is another object (409; 422 for a patch that names a UID)."""


class ExpiredError(ApiError):
    """410: this version, or this page of a list, is no longer kept."""


class ForbiddenError(ApiError):
    """401 or 403."""


class InvalidError(ApiError):
    """400 or 422: the object is not right, and sending it again will not make it so."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    422: InvalidError,
}


def error_of(call: str, status: int, body: Any) -> ApiError:
    """The error for an answer; `body` is what the answer's JSON held, or anything else."""
    told = body if isinstance(body, Mapping) and body.get("kind") == "Status" else {}
    reason, message = str(told.get("reason") or ""), str(told.get("message") or "")
    details = told.get("details")
    details = details if isinstance(details, Mapping) else {}
    refused = {str(cause.get("field")) for cause in details.get("causes") or ()}
    # A UID in a patch is a precondition; that it is another object's is told as an immutable field.
    kind = ConflictError if "metadata.uid" in refused else _BY_STATUS.get(status, ApiError)
    error = kind(call, status, reason, message)
    retry_s = details.get("retryAfterSeconds")
    if isinstance(retry_s, int | float) and retry_s > 0:
        error.retry_after_s = float(retry_s)
    return error


def _advice(status: int) -> str:
    if status == 401:
        return (
            "; the token or certificate is not accepted: see `kubectl auth whoami` with the same credentials"
        )
    if status == 403:
        return "; grant the permission to this account: see `kubectl auth can-i`"
    return ""
