"""Kubernetes' texts of times as seconds since the epoch, and back."""

from datetime import UTC, datetime


def seconds(text: str | None) -> float:
    """0.0 for none. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def text(at: float) -> str:
    """Whole seconds, as Kubernetes writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(at: float) -> str:
    """With microseconds: to be ordered."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
