"""Errors as vLLM 0.32 answers them.

Two families: what request validation refuses has the type "Bad Request" and lists pydantic's errors; what the server
refuses later has a type of its own ("BadRequestError", "NotFoundError", ...).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

_UNION_MARKERS = frozenset({"str", "int", "float", "bool", "list", "dict", "literal", "none"})
_MAX_REPORTED = 10
_MAX_INPUT_CHARS = 200


class ApiError(Exception):
    """An answer other than 200. `param` names the field that is wrong."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}}


class PlainError(ApiError):
    """An answer of the framework beneath vLLM, which words its errors otherwise."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, "", message)

    def body(self) -> dict[str, Any]:
        return {"detail": str(self)}


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """VLLM appends the field and its value to the message when it knows them."""
    extras = [f"{name}={item}" for name, item in (("parameter", param), ("value", value)) if item is not None]
    return ApiError(400, "BadRequestError", f"{message} ({', '.join(extras)})" if extras else message, param)


def not_found(message: str, param: str | None = None) -> ApiError:
    return ApiError(404, "NotFoundError", message, param)


def internal_error(message: str = "Internal server error") -> ApiError:
    return ApiError(500, "InternalServerError", message)


def unavailable(message: str) -> ApiError:
    return ApiError(503, "Service Unavailable", message)


def shutting_down() -> ApiError:
    """To whoever comes while the instance drains."""
    return unavailable("The instance is shutting down and takes no new requests.")


class FieldError(ValueError):
    """Raised inside body validation, where vLLM raises its own error with a parameter name."""

    def __init__(self, message: str, param: str | None = None, value: object = None) -> None:
        extras = [
            f"{name}={item}" for name, item in (("parameter", param), ("value", value)) if item is not None
        ]
        super().__init__(f"{message} ({', '.join(extras)})" if extras else message)
        self.param = param


def invalid_body(errors: Sequence[ErrorDetails | Mapping[str, Any] | str]) -> ApiError:
    """All of a body's errors in one answer, as FastAPI's validation reports them; vLLM's own error goes alone."""
    for error in errors:
        raised = error.get("ctx", {}).get("error") if isinstance(error, Mapping) else None
        if isinstance(raised, FieldError):
            return ApiError(400, "BadRequestError", str(raised), raised.param)
    param = _location(errors[0]["loc"]) if errors and isinstance(errors[0], Mapping) else None
    label = "error" if len(errors) == 1 else "errors"
    lines = [f"{len(errors)} validation {label}:", *(f"  {_line(error)}" for error in errors[:_MAX_REPORTED])]
    if len(errors) > _MAX_REPORTED:
        lines.append(f"  ...and {len(errors) - _MAX_REPORTED} more {label}")
    return ApiError(400, "Bad Request", "\n".join(lines).rstrip(), param)


def _location(location: Sequence[str | int]) -> str:
    parts = ["body", *map(str, location)]
    return ".".join(
        part for part in parts if part.lower() not in _UNION_MARKERS and not set(part) & set("[](){}")
    )


def _line(error: ErrorDetails | Mapping[str, Any] | str) -> str:
    if isinstance(error, str):
        return error
    shown = {
        "type": error["type"],
        "loc": _location(error["loc"]),
        "msg": error["msg"],
        "input": _summary(error.get("input")),
    }
    if "ctx" in error:
        shown["ctx"] = error["ctx"]
    return str(shown)[:1000]


def _summary(value: object) -> object:
    if isinstance(value, dict | list | tuple):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _MAX_INPUT_CHARS else text[:_MAX_INPUT_CHARS] + "...[truncated]"
