"""From a failed attempt to what the client is told, and whether another attempt is worth making."""

from collections.abc import Mapping
from types import MappingProxyType

from pointsman.core.decisions import Reject, RejectReason
from pointsman.http.client import Failure
from pointsman.router.legs import LegFailure
from pointsman.router.wire import ErrorAnswer, Reason

_TIMEOUTS = frozenset((Failure.FIRST_BYTE_TIMEOUT, Failure.BETWEEN_BYTES_TIMEOUT, Failure.TOTAL_TIMEOUT))
_UNREACHABLE = frozenset((Failure.CONNECT, Failure.CONNECT_TIMEOUT, "gone"))
_BUSY = frozenset((429, 503))

_REJECT_STATUS: Mapping[RejectReason, int] = MappingProxyType(
    {
        RejectReason.MODEL_NOT_FOUND: 404,
        RejectReason.NO_INSTANCE: 503,
        RejectReason.QUEUE_FULL: 429,
        RejectReason.DEADLINE: 429,
    }
)


def is_retried(failure: LegFailure) -> bool:
    """Whether another instance may do better. Who let one time out has waited long enough already."""
    return failure.failure not in _TIMEOUTS and failure.failure != "no_decode"


def error_answer(failure: LegFailure, retry_after_s: float) -> ErrorAnswer:
    """What the client is told in the end."""
    if failure.failure in _TIMEOUTS:
        return ErrorAnswer(504, Reason.TIMEOUT, "the engine did not answer in time")
    if failure.failure == "no_decode":
        return ErrorAnswer(503, RejectReason.NO_INSTANCE, failure.message, retry_after_s=retry_after_s)
    if failure.failure in _UNREACHABLE:
        return ErrorAnswer(502, Reason.UNREACHABLE, "the engine could not be reached")
    if failure.status in _BUSY:
        return ErrorAnswer(
            503, Reason.BUSY, f"the engine is busy: it answered {failure.status}", retry_after_s=retry_after_s
        )
    if failure.status:
        return ErrorAnswer(
            502, Reason.ERROR, f"the engine answered {failure.status}", engine_error=failure.engine_error
        )
    return ErrorAnswer(502, Reason.BROKEN, "the engine's answer broke off")


def rejected(reject: Reject) -> ErrorAnswer:
    return ErrorAnswer(
        _REJECT_STATUS[reject.reason], reject.reason, reject.why, retry_after_s=reject.retry_after_s
    )
