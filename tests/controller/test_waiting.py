"""The program that a preStop hook runs inside an engine's pod, against servers that answer as engines do."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from pointsman.controller.inside.wait_until_idle import QUIET_POLLS, main
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
