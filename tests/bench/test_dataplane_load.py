"""The load programs of the data-plane bench against each other, and against servers that misbehave."""

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dataplane.load import compile_programs, free_ports, write_bodies

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

Client = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("programs")
    compile_programs(folder)
    return folder


@pytest.fixture
def engine_port(programs: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with subprocess.Popen([programs / "engine", "--interval-ms", "1", str(port)]) as engine:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            yield port
        finally:
            engine.kill()


@pytest.fixture
def client(programs: Path, tmp_path: Path) -> Client:
    def run(port: int, *options: str, stream_tokens: int = 0) -> dict[str, Any]:
        bodies = write_bodies(tmp_path / "bodies", stream=stream_tokens > 0, max_tokens=stream_tokens or 16)
        argv = [
            str(programs / "client"),
            "--port",
            str(port),
            "--bodies",
            str(bodies),
            "--tokens",
            str(stream_tokens),
            *options,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        begin, end, report = done.stdout.splitlines()
        assert (begin, end) == ("begin", "end")
        return dict(json.loads(report))

    return run


def test_requests_are_answered_without_errors(engine_port: int, client: Client) -> None:
    report = client(engine_port, "--connections", "8", "--seconds", "0.2")
    assert report["requests"] > 0
    assert report["streams"] == 0
    assert not any(report["errors"].values())
    assert report["latency_us"]["count"] == report["requests"]


def test_every_stream_brings_its_tokens_in_order(engine_port: int, client: Client) -> None:
    report = client(engine_port, "--connections", "50", "--seconds", "10", "--once", stream_tokens=5)
    assert report["streams"] == report["requests"] == 50
    assert report["events"] == 50 * 6  # a role, then the tokens
    assert report["delay_us"]["count"] == 50 * 5
    assert not any(report["errors"].values())


def post(port: int, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    answer = dict(json.loads(connection.getresponse().read()))
    connection.close()
    return answer


def test_the_engine_hands_over_kv_as_vllm_does(engine_port: int) -> None:
    prefilled = post(engine_port, {"kv_transfer_params": {"do_remote_decode": True}})
    params = prefilled["kv_transfer_params"]
    assert params["do_remote_prefill"] is True
    assert post(engine_port, {"kv_transfer_params": params})["kv_transfer_params"] is None
    connection = http.client.HTTPConnection("127.0.0.1", engine_port)
    connection.request("GET", "/stats")
    stats = json.loads(connection.getresponse().read().rstrip(b"\0"))
    connection.close()
    assert (stats["prefill_legs"], stats["decode_legs"]) == (1, 1)


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Answers the first request with these bytes and closes."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def streamed(*events: bytes, whole: bool = True) -> bytes:
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in events] + ([b"0\r\n\r\n"] if whole else [])
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"".join(chunks)
    )


TOKEN = b'data: {"choices":[{"delta":{"content":" a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "status", id="refused"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "broken", id="closed too early"),
        pytest.param(streamed(TOKEN, DONE, whole=False), "broken", id="no last chunk"),
        pytest.param(streamed(TOKEN), "stream", id="no DONE"),
        pytest.param(streamed(TOKEN, TOKEN, DONE), "stream", id="a token too many"),
        pytest.param(streamed(b'data: {"error":{}}\n\n', TOKEN, DONE), "event", id="an error event"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "broken", id="no chunk size"
        ),
    ],
)
def test_the_client_believes_no_bad_answer(answer: bytes, error: str, client: Client) -> None:
    with server(answer) as port:
        report = client(port, "--once", "--seconds", "10", stream_tokens=1)
    assert [name for name, count in report["errors"].items() if count] == [error]


def test_a_good_answer_in_small_pieces_is_no_error(client: Client) -> None:
    with server(streamed(TOKEN[:20], TOKEN[20:], DONE[:3], DONE[3:])) as port:
        report = client(port, "--once", "--seconds", "10", stream_tokens=1)
    assert report["streams"] == 1
    assert not any(report["errors"].values())
