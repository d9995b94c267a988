"""What clients send: heads and bodies as the public port reads them."""

import asyncio
from typing import Any

from pointsman.http.client import Sweeper
from pointsman.http.head import RequestHead
from pointsman.router.front import ClientConnection
from pointsman.router.server import PublicServer
from pointsman.router.settings import ClientLimits, ClientTimeouts
from pointsman_fuzz.wire import MemoryTransport, cuttings

LIMITS = ClientLimits(
    body_bytes=4096, header_bytes=1024, headers=16, url_bytes=256, connections=1, concurrent_requests=1
)
TIMEOUTS = ClientTimeouts(head_s=10.0, body_s=10.0, idle_s=10.0)
TURNS = 64
"""Of the loop, for requests that wait behind others: more than fit into what the fuzzer sends."""

Story = list[tuple[bytes, bytes, bytes] | int]
"""Requests (method, target, body) in order, and the status that ended the connection."""


class Listener:
    """Answers every request at once, and writes it down."""

    def __init__(self) -> None:
        self.story: Story = []

    def admit(self, head: RequestHead, client: ClientConnection) -> object:
        assert not any(isinstance(one, int) for one in self.story), "a request after the refusal"
        return self

    def handle(self, admission: Any, head: RequestHead, body: bytes, client: ClientConnection) -> None:
        assert head.chunked or len(body) == head.content_length
        assert len(body) <= LIMITS.body_bytes
        assert len(head.headers) <= LIMITS.headers
        self.story.append((head.method, head.target, body))
        client.respond(b"HTTP/1.1 200 OK\r\n", b"{}")

    def malformed(self, status: int, message: str, client: ClientConnection) -> None:
        assert 400 <= status < 600, status
        assert message
        self.story.append(status)
        client.respond(b"HTTP/1.1 %d X\r\n" % status, message.encode())


async def run(data: bytes) -> None:
    """However the bytes are cut, they are the same requests, and refused or not."""
    stories = [await _heard(pieces) for pieces in cuttings(data)]
    requests = [[one for one in story if not isinstance(one, int)] for story in stories]
    assert requests[0] == requests[1] == requests[2], "other requests, cut otherwise"
    refused = [isinstance(story[-1], int) if story else False for story in stories]
    assert len(set(refused)) == 1, "refused, cut otherwise"


async def _heard(pieces: list[bytes]) -> Story:
    listener, transport = Listener(), MemoryTransport()
    server = PublicServer(listener, LIMITS, TIMEOUTS, Sweeper())
    connection = ClientConnection(server)
    connection.connection_made(transport)
    for piece in pieces:
        if transport.closed:
            break
        connection.data_received(piece)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if not transport.closed:
        connection.eof_received()
    connection.connection_lost(None)
    answers = transport.written.count(b"HTTP/1.1 ") - transport.written.count(b"HTTP/1.1 100 ")
    assert answers == len(listener.story), "as many answers as requests"
    return listener.story
