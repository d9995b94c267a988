"""One request and its response: what the sender holds, and what it is told."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pointsman.http.errors import ExchangeError

if TYPE_CHECKING:
    from pointsman.http.connection import Connection

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in the order they came."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds; None: no limit. Noticed at most one sweep late, but for `connect_s`."""

    connect_s: float | None = 5.0
    first_byte_s: float | None = 300.0
    """From sending the request to the first byte of the response."""
    between_bytes_s: float | None = 60.0
    total_s: float | None = None
    """From asking for a connection to the last byte."""


class Receiver(Protocol):
    """Told about the response of one exchange: `on_head`, `on_data` any number of times, then `on_end`; or, at any
    point, `on_error` as the last call. Nothing is called after `Exchange.abort`, nor before `Pool.send` returned.
    """

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_data(self, data: bytes) -> None:
        """Some of the body: all that one read from the socket brought."""

    def on_end(self) -> None:
        """The response is complete, as its length or last chunk says."""

    def on_error(self, error: ExchangeError) -> None: ...


class Exchange:
    """The sender's handle on a request under way."""

    __slots__ = ("body", "connection", "head", "paused", "receiver", "resend", "started_s", "timeouts")

    def __init__(
        self,
        head: bytes,
        body: bytes,
        receiver: Receiver,
        timeouts: Timeouts,
        started_s: float,
        *,
        resend: bool,
    ) -> None:
        self.head = head
        self.body = body
        self.timeouts = timeouts
        self.started_s = started_s
        self.resend = resend
        self.receiver: Receiver | None = receiver
        """None: nobody listens any more."""
        self.connection: Connection | None = None
        self.paused = False

    def abort(self) -> None:
        """Stop it. The connection is closed, which tells the server; the receiver hears nothing more."""
        self.receiver = None
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.abort()

    def pause(self) -> None:
        """Stop reading the response, so that the server has to wait. Data read already may still be delivered."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause_reading()

    def resume(self) -> None:
        self.paused = False
        if self.connection is not None:
            self.connection.resume_reading()

    def fail(self, error: ExchangeError) -> None:
        """For the pool: tell the receiver, once."""
        receiver = self.receiver
        if receiver is not None:
            self.receiver = None
            self.connection = None
            receiver.on_error(error)
