"""A client that is closed leaves no connection behind, whatever the server does."""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trustme

from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.resource import PODS


def open_sockets() -> int:
    """Of this process, among its first descriptors."""
    count = 0
    for number in range(256):
        with suppress(OSError):  # not open
            count += stat.S_ISSOCK(os.fstat(number).st_mode)
    return count


def serve_in_silence(listening: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection that has brought its request, and gets neither an answer nor a goodbye."""
    connection, _ = listening.accept()
    under_tls = tls.wrap_socket(connection, server_side=True)
    under_tls.recv(65536)
    return under_tls


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.fixture
def access(listening: socket.socket, authority: trustme.CA) -> Access:
    """To whoever listens there, by a certificate of the authority."""
    asking = ssl.create_default_context()
    authority.configure_trust(asking)
    return Access(f"https://127.0.0.1:{listening.getsockname()[1]}", tls=asking)


async def test_a_call_under_tls_that_was_cancelled_is_gone_with_its_client(
    listening: socket.socket, access: Access, authority: trustme.CA
) -> None:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    before = open_sockets()
    async with ApiClient(access) as client:
        call = asyncio.create_task(client.list(PODS))
        connection = await asyncio.to_thread(serve_in_silence, listening, serving)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert open_sockets() > before + 1, "it waits for the goodbye of the server"
    with connection:
        assert open_sockets() == before + 1, "only the server's end is there"


async def test_a_call_that_was_cancelled_in_the_middle_of_the_handshake_is_gone_with_its_client(
    listening: socket.socket, access: Access
) -> None:
    before = open_sockets()
    async with ApiClient(access) as client:
        call = asyncio.create_task(client.list(PODS))
        connection, _ = await asyncio.to_thread(listening.accept)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    with connection:
        assert open_sockets() == before + 1, "only the server's end is there"
