"""The program that a preStop hook runs inside an engine's pod, against servers that answer as engines do."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pointsman.controller.inside.wait_until_idle import QUIET_POLLS, main
from pointsman.controller.inside.wait_while_connected import connected
from pointsman.controller.inside.wait_while_connected import main as wait_while_connected
from pointsman.controller.objects.drain import pre_stop, split_grace

SILENT = -1.0
"""In place of a number: no answer for as long as the client waits."""
NAMES = ["vllm:num_requests_running", "vllm:num_requests_waiting"]


@contextmanager
def engine(answers: list[float]) -> Iterator[tuple[int, list[float]]]:
    """An engine that has so many requests, poll by poll, the last for ever; its port and what was asked of it."""
    given: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = answers[min(len(given), len(answers) - 1)]
            given.append(value)
            if value == SILENT:
                self.rfile.read(1)  # until the client has had enough
                return
            text = (
                "# HELP vllm:num_requests_running x\n"
                f'vllm:num_requests_running{{model_name="a b"}} {value}\n'
                'vllm:num_requests_waiting{model_name="a b"} 0.0\n'
                "vllm:num_requests_running_total 7\n"
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, given
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_it_waits_until_nothing_has_run_for_a_while() -> None:
    with engine([2.0, 1.0, 0.0, 1.0, 0.0]) as (port, asked):
        main(f"http://127.0.0.1:{port}/metrics", 60.0, NAMES, pause_s=0.0)
    assert asked == [2.0, 1.0, 0.0, 1.0] + [0.0] * QUIET_POLLS


def test_it_ends_when_its_time_is_up() -> None:
    with engine([5.0]) as (port, asked):
        main(f"http://127.0.0.1:{port}/metrics", 0.3, NAMES, pause_s=0.05)
    assert asked


def test_an_engine_that_is_too_busy_to_answer_is_not_idle() -> None:
    silent = [SILENT] * (QUIET_POLLS + 1)
    with engine([*silent, 0.0]) as (port, asked):
        main(f"http://127.0.0.1:{port}/metrics", 60.0, NAMES, pause_s=0.0, timeout_s=0.2)
    assert asked[: len(silent)] == silent
    assert len(asked) >= len(silent) + QUIET_POLLS


def test_it_does_not_wait_for_an_engine_that_is_gone() -> None:
    with engine([5.0]) as (port, _):
        pass
    started = time.monotonic()
    main(f"http://127.0.0.1:{port}/metrics", 600.0, NAMES, pause_s=0.0)
    assert time.monotonic() - started < 300


def test_the_hook_as_it_is_sent_runs_with_nothing_but_python() -> None:
    with engine([0.0]) as (port, asked):
        command = pre_stop(port, NAMES, split_grace(20))["exec"]["command"]
        assert command[0] == "python3"
        done = subprocess.run(
            [sys.executable, "-I", "-S", *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(asked) == QUIET_POLLS


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.mark.parametrize(
    ("local", "remote", "state", "expected"),
    [
        pytest.param("1F00620A:1F40", "2001620A:C350", "01", True, id="another pod"),
        pytest.param("1F00620A:1F40", "2001620A:C350", "06", False, id="another pod, closed"),
        pytest.param("00000000:1F40", "00000000:0000", "0A", False, id="listening"),
        pytest.param("0100007F:1F40", "0100007F:C350", "01", False, id="loopback"),
        pytest.param("1F00620A:1F40", "1F00620A:C350", "01", False, id="itself at its own address"),
        pytest.param(
            "0000000000000000FFFF00001F00620A:1F40",
            "0000000000000000FFFF00002001620A:C350",
            "01",
            True,
            id="another pod, mapped",
        ),
        pytest.param(
            "0000000000000000FFFF00000100007F:1F40",
            "0000000000000000FFFF00000200007F:C350",
            "01",
            False,
            id="loopback, mapped",
        ),
        pytest.param(
            "000080FE00000000FF005450B6BA1BFE:1F40",
            "00000000000000000000000001000000:C350",
            "01",
            False,
            id="IPv6 loopback",
        ),
        pytest.param(
            "000080FE00000000FF005450B6BA1BFE:1F40",
            "000080FE00000000FF005450B6BA1BAA:C350",
            "01",
            True,
            id="another pod, IPv6",
        ),
    ],
)
def test_connections_to_other_pods(local: str, remote: str, state: str, *, expected: bool) -> None:
    line = f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 18 1\n"
    assert connected(HEAD + line) is expected
    assert not connected(HEAD)


def test_the_other_nodes_wait_until_nothing_is_connected_and_no_longer_than_they_may(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    tables = (str(table), str(tmp_path / "tcp6"))
    table.write_text(HEAD + "   0: 1F00620A:1F40 2001620A:C350 01 0:0 0:0 0 0 0 1 1\n")
    wait_while_connected(0.05, tables, 0.01)  # not for ever
    waiting = threading.Thread(target=wait_while_connected, args=(60.0, tables, 0.01), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    table.write_text(HEAD)
    waiting.join(60.0)
    assert not waiting.is_alive()
