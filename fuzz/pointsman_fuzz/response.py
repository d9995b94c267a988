"""What engines answer: the upstream client's side of a connection."""

from pointsman.http.client import ExchangeError, Headers, Origin, Pool, Sweeper, Timeouts
from pointsman.http.connection import Connection
from pointsman.http.exchange import Exchange
from pointsman_fuzz.wire import MemoryTransport, cuttings


class Told:
    """A receiver that checks the order of what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.ended = False
        self.error: ExchangeError | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.over, "a head after the end"
        assert not self.status, "two heads"
        assert 200 <= status <= 999, status
        self.status = status

    def on_data(self, data: bytes) -> None:
        assert self.status, "a body before the head"
        assert not self.over, "data after the end"
        assert data, "nothing as data"
        self.body += data

    def on_end(self) -> None:
        assert self.status, "an end before the head"
        assert not self.over, "two ends"
        self.ended = True

    def on_error(self, error: ExchangeError) -> None:
        assert not self.over, "an error after the end"
        self.error = error

    @property
    def over(self) -> bool:
        return self.ended or self.error is not None


async def run(data: bytes) -> None:
    """However the bytes are cut, the receiver is told one story, and that it is over."""
    stories = [_told(pieces) for pieces in cuttings(data)]
    complete = {(told.status, told.body) for told in stories if told.ended}
    assert len(complete) <= 1, "other responses, cut otherwise"
    assert not complete or all(told.ended for told in stories), "an error, cut otherwise"


def _told(pieces: list[bytes]) -> Told:
    told, transport = Told(), MemoryTransport()
    pool = Pool(Origin("engine", 1), Sweeper())
    connection = Connection(pool)
    connection.connection_made(transport)
    connection.start(Exchange(b"GET / HTTP/1.1\r\n\r\n", b"", told, Timeouts(), 0.0, resend=True), 0.0)
    for piece in pieces:
        if transport.closed:
            break
        connection.data_received(piece)
    if not transport.closed:
        connection.eof_received()
    if not transport.closed:
        connection.connection_lost(None)
    assert told.over, "the connection is gone, and nobody was told"
    return told
