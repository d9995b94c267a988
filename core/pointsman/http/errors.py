"""What can go wrong between us and a server, as values that are passed to callbacks or raised."""

from enum import StrEnum


class Failure(StrEnum):
    """How an exchange failed. The words are used in logs, metrics and error answers."""

    CONNECT = "connect"
    """No connection: refused, unreachable, name not found, TLS handshake failed."""
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    BETWEEN_BYTES_TIMEOUT = "between_bytes_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CLOSED = "closed"
    """The server closed the connection before the response was complete."""
    PROTOCOL = "protocol"
    """What the server sent is not HTTP/1.1 as we accept it."""
    TOO_LARGE = "too_large"
    """Response head, chunk line, trailer, event or body beyond its limit."""


class ExchangeError(Exception):
    """An exchange ended without a complete response."""

    def __init__(self, failure: Failure, message: str, *, response_started: bool = False) -> None:
        super().__init__(message)
        self.failure = failure
        self.response_started = response_started
        """Whether any byte of the response had arrived."""


class BadRequestError(Exception):
    """A request that is refused before anything is done with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
