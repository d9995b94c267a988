"""The command as people start it."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from pointsman.cli.main import main


def test_serves_and_ends_on_sigterm() -> None:
    command = [str(Path(sys.executable).with_name("pointsman")), "engine", "--port", "0", "--speed", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("pointsman engine ready: http://127.0.0.1:")
        url = line.split()[3]
        answer = httpx.post(
            f"{url}/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True}
        )
        assert answer.json()["usage"]["completion_tokens"] == 3
        assert "vllm:num_requests_running" in httpx.get(f"{url}/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_dies_on_demand() -> None:
    command = [str(Path(sys.executable).with_name("pointsman")), "engine", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        assert httpx.post(f"{url}/admin/faults", json={"die_after_s": 0.01}).status_code == 200
        assert process.wait(20) == -signal.SIGKILL


def test_dies_on_demand_as_the_first_process_of_a_container() -> None:
    first = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if shutil.which(first[0]) is None or subprocess.run([*first, "true"], check=False).returncode:
        pytest.skip("this machine makes no namespaces for PIDs")
    program = "import os; from pointsman.simengine.faults import die; assert os.getpid() == 1; die()"
    assert subprocess.run([*first, sys.executable, "-c", program], check=False).returncode == 137


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--profile", "nobody"], "no engine profile 'nobody'", id="unknown profile"),
        pytest.param(["--speed", "0"], "0.0 is not in the range", id="no speed"),
        pytest.param(
            ["--host", "203.0.113.9"], "cannot serve on 203.0.113.9:8000", id="an address that is not ours"
        ),
    ],
)
def test_errors_are_for_people(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["engine", *arguments])
    assert result.exit_code != 0
    assert says in result.output
