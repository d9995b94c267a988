"""A sandbox lets nothing in or out, and leaves nothing behind, whoever dies and however."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import plugin, supervisor, watchdog
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.sandbox import Sandbox, SandboxError

REMOVAL_SECONDS = 5.0

# A starter in a process of its own, which can be killed: says the sandbox's folder, then waits.
STARTER = """
import sys, time
from pathlib import Path
from e2e.cluster.sandbox import Sandbox
sandbox = Sandbox(Path(sys.argv[1]))
sandbox.start("sleeper", ["sleep", "1000"])
print(sandbox.folder, flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def possible_here() -> None:
    plugin.skip_where_impossible(nodes=False)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path) as opened:
        yield opened


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines, by PID, that name the sandbox's folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(folder) in line:
                found[int(entry.name)] = line
    return found


def cgroups_of(folder: Path) -> list[Path]:
    return [group / folder.name for group in watchdog.cgroup_hierarchies() if (group / folder.name).exists()]


def is_gone(folder: Path) -> bool:
    return not (folder.exists() or processes_of(folder) or cgroups_of(folder))


def make_cgroup(folder: Path) -> None:
    (watchdog.cgroup_hierarchies()[0] / folder.name / "below").mkdir(parents=True)


def start_in_own_process(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(parent)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert starter.stdout is not None
    return starter, Path(starter.stdout.readline().strip())


def test_no_route_leads_out(sandbox: Sandbox) -> None:
    assert sandbox.run(["ip", "route"]).stdout == ""
    with sandbox.network(), socket.socket() as client:
        client.settimeout(1)
        with pytest.raises(OSError, match="unreachable"):
            client.connect(("192.0.2.1", 80))


def test_the_thread_is_back_in_its_own_network_afterwards(sandbox: Sandbox) -> None:
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    with sandbox.network():
        assert Path("/proc/thread-self/ns/net").stat().st_ino != own
    assert Path("/proc/thread-self/ns/net").stat().st_ino == own


def test_only_the_sandbox_and_who_enters_are_seen_inside(sandbox: Sandbox) -> None:
    sandbox.start("sleeper", ["sleep", "1000"])
    seen = sandbox.run(["ps", "-e", "-o", "comm="]).stdout.split()
    assert sorted(seen) == ["ps", "python", "sleep"]


def test_what_is_written_to_the_hosts_folders_stays_inside(sandbox: Sandbox) -> None:
    for folder in ("/run", "/var/lib", "/var/log"):
        sandbox.run(["touch", f"{folder}/{sandbox.folder.name}"])
        assert not Path(folder, sandbox.folder.name).exists()


def test_a_command_that_fails_says_what_it_said(sandbox: Sandbox) -> None:
    with pytest.raises(CommandError, match=r"ls /nowhere ended with 2:\nls: cannot access"):
        sandbox.run(["ls", "/nowhere"])


def test_a_process_that_dies_is_noticed_with_the_end_of_its_log(sandbox: Sandbox) -> None:
    sandbox.start("dying", ["sh", "-c", "echo the last words; exit 3"])
    eventually(lambda: not sandbox.is_running("dying"), "it lives")
    with pytest.raises(SandboxError, match=r"dying ended with 3:\nthe last words"):
        sandbox.check()


def test_a_process_that_was_killed_on_purpose_is_no_error(sandbox: Sandbox) -> None:
    sandbox.start("sleeper", ["sleep", "1000"])
    sandbox.kill("sleeper")
    sandbox.check()
    sandbox.start("sleeper", ["sleep", "1000"])
    assert sandbox.is_running("sleeper")


def test_what_is_to_be_restarted_comes_back_until_it_is_killed(sandbox: Sandbox) -> None:
    marks = sandbox.folder / "marks"
    sandbox.start("service", ["sh", "-c", f"echo >> {marks}; sleep 0.05"], restart=True)
    eventually(lambda: marks.exists() and len(marks.read_text()) >= 2, "it was not restarted")
    sandbox.kill("service")
    so_far = marks.read_text()
    time.sleep(3 * supervisor.RESTART_SECONDS)
    assert marks.read_text() == so_far
    sandbox.check()


def test_what_cannot_start_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="/no/such/command does not start"):
        sandbox.start("missing", ["/no/such/command"])


def test_a_command_inside_dies_with_the_one_who_entered(sandbox: Sandbox) -> None:
    entered = subprocess.Popen(sandbox.command(["sleep", "999"]))
    eventually(lambda: "sleep" in sandbox.run(["ps", "-e", "-o", "comm="]).stdout, "it did not start")
    entered.kill()
    entered.wait()
    eventually(lambda: "sleep" not in sandbox.run(["ps", "-e", "-o", "comm="]).stdout, "it lives on")


def test_closing_leaves_nothing(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as sandbox:
        sandbox.start("sleeper", ["sleep", "1000"])
        make_cgroup(sandbox.folder)
    assert is_gone(sandbox.folder)
    assert list(tmp_path.iterdir()) == []


def test_two_sandboxes_do_not_disturb_each_other(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as one:
        with Sandbox(tmp_path) as other:
            other.start("sleeper", ["sleep", "1000"])
            assert (
                one.run(["readlink", "/proc/self/ns/net"]).stdout
                != other.run(["readlink", "/proc/self/ns/net"]).stdout
            )
        assert is_gone(other.folder)
        assert one.run(["echo", "alive"]).stdout == "alive\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_starters_death_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    starter, folder = start_in_own_process(tmp_path)
    make_cgroup(folder)
    # The whole process group: as a terminal's Ctrl-C and `timeout` do it.
    os.killpg(starter.pid, number)
    starter.communicate()
    eventually(lambda: is_gone(folder), "something is left", REMOVAL_SECONDS)


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2])
def test_a_starter_killed_half_way_up_leaves_nothing(tmp_path: Path, delay_s: float) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    eventually(lambda: any(tmp_path.iterdir()), "it did not start")
    time.sleep(delay_s)
    starter.kill()
    starter.wait()
    eventually(lambda: not processes_of(tmp_path), "a process is left", REMOVAL_SECONDS)
    eventually(lambda: not any(tmp_path.iterdir()), "a folder is left", REMOVAL_SECONDS)


def test_what_a_killed_watchdog_left_is_swept_by_the_next_start(tmp_path: Path) -> None:
    starter, folder = start_in_own_process(tmp_path)
    make_cgroup(folder)
    (watchdog_pid,) = (pid for pid, line in processes_of(folder).items() if "watchdog.py" in line)
    os.kill(watchdog_pid, signal.SIGKILL)
    starter.kill()
    starter.communicate()
    eventually(lambda: not processes_of(folder), "a process is left", REMOVAL_SECONDS)
    assert folder.exists()
    with Sandbox(tmp_path):
        assert is_gone(folder)


def test_the_wrapper_runs_commands_inside_and_refuses_when_the_sandbox_has_ended(tmp_path: Path) -> None:
    wrapper = tmp_path / "run"
    with Sandbox(tmp_path) as sandbox:
        sandbox.write_wrapper(wrapper, {"GREETING": "good morning"})
        inside = subprocess.run(
            [wrapper, "sh", "-c", 'echo "$GREETING"; readlink /proc/self/ns/net; exit 3'],
            capture_output=True,
            text=True,
            check=False,
        )
        assert inside.returncode == 3
        assert inside.stdout.splitlines() == [
            "good morning",
            sandbox.run(["readlink", "/proc/self/ns/net"]).stdout.strip(),
        ]
    refused = subprocess.run([wrapper, "true"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "start it with: make cluster" in refused.stderr
