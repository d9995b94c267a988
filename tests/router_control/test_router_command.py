"""`pointsman router` as people run it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SHORT = (
    "models: [{name: llama, instances: [{url: 'http://127.0.0.1:1'}]}]\nlisten: {port: 0}\nadmin: {port: 0}\n"
)

POINTSMAN = Path(sys.executable).with_name("pointsman")


def pointsman(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([POINTSMAN, *arguments], capture_output=True, text=True, timeout=50, check=False)


def test_a_right_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "router.yaml").write_text(SHORT)
    done = pointsman("router", "--check", "--config", str(tmp_path / "router.yaml"))
    assert done.returncode == 0
    assert done.stdout.endswith("router.yaml: 1 model, 1 instance\n")


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_wrong_file_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(SHORT + "limts: {}\n")
    done = pointsman("router", *arguments, "--config", str(file))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{file}:4: limts: unknown field; did you mean 'limits'?")
    assert "Traceback" not in done.stderr


def test_no_file_is_exit_code_2(tmp_path: Path) -> None:
    done = pointsman("router", "--config", str(tmp_path / "router.yaml"))
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}/router.yaml: cannot be read: No such file or directory\n"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    file = tmp_path / "router.yaml"
    file.write_text(SHORT)
    with subprocess.Popen(
        [POINTSMAN, "router", "--config", str(file)], stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def ports(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Read from the log until it says where it serves."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"serving on \S+:(\d+), admin on \S+:(\d+)", line):
            return int(found[1]), int(found[2])
    raise AssertionError("the router ended before it served")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    public, admin = ports(process)
    assert httpx.get(f"http://127.0.0.1:{admin}/ready").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{public}/v1/models").json()["data"][0]["id"] == "llama"
    process.send_signal(number)
    assert process.wait(20) == 0


def test_sighup_reads_the_file_again(process: subprocess.Popen[str], tmp_path: Path) -> None:
    ports(process)
    assert process.stderr is not None
    (tmp_path / "router.yaml").write_text(SHORT + "limts: {}\n")
    process.send_signal(signal.SIGHUP)
    assert "refused, the old one stays" in next(line for line in process.stderr if "configuration" in line)


def test_a_port_that_is_taken_is_exit_code_1(process: subprocess.Popen[str], tmp_path: Path) -> None:
    public, _ = ports(process)
    other = tmp_path / "other.yaml"
    other.write_text(SHORT.replace("listen: {port: 0}", f"listen: {{port: {public}}}"))
    done = pointsman("router", "--config", str(other))
    assert done.returncode == 1
    assert "the router cannot start: " in done.stderr
    assert "Traceback" not in done.stderr
