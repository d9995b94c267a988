"""A place of its own for a cluster: mount, PID, network and IPC namespaces that nothing outside can reach.

The owner holds three things that end with it: a pipe to the watchdog, a socket to the supervisor, and open descriptors
of the namespaces, by which commands enter. A descriptor cannot come to mean another process, as a PID can.
"""

import array
import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from e2e.cluster import commands, supervisor, watchdog

START_SECONDS = 60.0
END_SECONDS = 60.0
LOG_TAIL_BYTES = 2000

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SandboxError(Exception):
    """A sandbox could not be made, or something in it died; the message says what and shows the end of its log."""


class Sandbox:
    """Namespaces, a folder for everything that is written, and the named processes that run inside.

    Use it as a context manager: leaving it ends every process and removes every trace, `folder` included.
    """

    def __init__(self, parent: Path) -> None:
        """Make a sandbox whose folder lies in `parent`. Raises SandboxError."""
        parent = parent.resolve()
        remove_leftovers(parent)
        self.folder, lock = _make_folder(parent)
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.resolv_conf = self.folder / "resolv.conf"
        self.resolv_conf.touch()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._answers = self._control.makefile("rb")
        ended, self._alive = os.pipe()
        with (self.logs / "watchdog.log").open("w") as log, theirs, os.fdopen(ended):
            self._watchdog = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", watchdog.__file__),
                    *(str(self.folder), sys.executable, supervisor.__file__, str(theirs.fileno())),
                ],
                stdin=ended,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno(), lock],
                start_new_session=True,
                env=commands.without_proxies(),
            )
        os.close(lock)
        self._namespaces: dict[str, int] = {}
        self._started: dict[str, dict[str, Any]] = {}
        self._closed = False
        try:
            self.pid = self._first_process()
            for kind in ("mnt", "pid", "net", "ipc"):
                self._namespaces[kind] = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY)
        except OSError as error:
            log_tail = tail(self.logs / "watchdog.log")
            self.close()
            raise SandboxError(f"the namespaces could not be made ({error}):\n{log_tail}") from error

    def _first_process(self) -> int:
        """PID of the supervisor as seen from here: the kernel translates the credentials of its first message."""
        size = struct.calcsize("3i")
        data, ancillary, _, _ = self._control.recvmsg(1 << 10, socket.CMSG_SPACE(size))
        if not data or not ancillary:
            raise ConnectionError("the supervisor ended")
        credentials = array.array("i", ancillary[0][2][:size])
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return credentials[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process inside and remove every trace; returns when that is done. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        for descriptor in (*self._namespaces.values(), self._alive):
            os.close(descriptor)
        self._answers.close()
        self._control.close()
        try:
            self._watchdog.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._watchdog.kill()
            self._watchdog.wait()
        watchdog.remove(self.folder)

    # ---------------------------------------------------------------- processes

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        node: str | None = None,
        restart: bool = False,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start a process that stays, in the network namespace of a node where one is named. Raises SandboxError.

        `restart`: start it again whenever it ends by itself, as a machine's service manager does.
        """
        self._started[name] = {
            "start": name,
            "argv": [*_enter_node(node), *map(str, argv)],
            "environment": {**commands.without_proxies(), "PATH": SYSTEM_PATH, **environment},
            "log": str(self.logs / f"{name}.log"),
            "restart": restart,
        }
        self.start_again(name)

    def start_again(self, name: str) -> None:
        """Start a process that has ended as it was started before. Raises SandboxError."""
        self._order(self._started[name])

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process that was started by name, and wait until it has ended."""
        self._order({"signal": name, "number": int(number)})
        deadline = time.monotonic() + END_SECONDS
        while self.is_running(name):
            if time.monotonic() > deadline:
                raise SandboxError(f"{name} did not end {END_SECONDS:.0f} s after signal {int(number)}")
            time.sleep(0.02)

    def is_running(self, name: str) -> bool:
        return name in self._order({"status": True})["running"]

    def check(self) -> None:
        """Raise SandboxError when a process that was started has ended by itself."""
        for name, code in self._order({"status": True})["ended"].items():
            if code != -signal.SIGKILL:
                raise SandboxError(f"{name} ended with {code}:\n{tail(self.logs / f'{name}.log')}")

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            self._control.sendall(json.dumps(order).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._answers.readline())
        except (OSError, ValueError) as error:
            raise SandboxError(f"the sandbox {self.folder.name} has ended: {error}") from error
        if "error" in answer:
            raise SandboxError(answer["error"])
        return answer

    # ---------------------------------------------------------------- entering

    def command(self, argv: Sequence[str | Path], *, node: str | None = None) -> list[str]:
        """The command that runs `argv` inside, in the folder it is called from. It dies with its caller."""
        inside = f"/proc/{os.getpid()}/fd"
        return [
            "nsenter",
            *(f"--{long}={inside}/{self._namespaces[kind]}" for long, kind in NSENTER_OPTIONS),
            "--",
            *("env", f"--chdir={Path.cwd()}"),
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *_enter_node(node),
            *map(str, argv),
        ]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        node: str | None = None,
        stdin: str | None = None,
        timeout: float = 60.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end. Raises CommandError when it fails, unless `check` is false."""
        return commands.run(
            self.command(argv, node=node),
            environment=commands.without_proxies(),
            stdin=stdin,
            timeout=timeout,
            check=check,
        )

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Open the connections of this thread inside the sandbox's network while the context lasts."""
        with Path("/proc/thread-self/ns/net").open() as own:
            _set_network_namespace(self._namespaces["net"])
            try:
                yield
            finally:
                _set_network_namespace(own.fileno())

    def write_wrapper(self, path: Path, environment: Mapping[str, str]) -> None:
        """Write a shell script that runs its arguments inside; it refuses when the sandbox has ended."""
        net = f"/proc/{os.getpid()}/fd/{self._namespaces['net']}"
        settings = " ".join(f"{name}='{value}'" for name, value in environment.items())
        dropped = " ".join(f"-u {name}" for name in commands.PROXY_VARIABLES)
        enter = " ".join(
            f"--{long}=/proc/{os.getpid()}/fd/{self._namespaces[kind]}" for long, kind in NSENTER_OPTIONS
        )
        path.write_text(
            "#!/bin/sh\n"
            "# Written when the cluster started: run a command inside it.\n"
            f'if [ "$(readlink {net})" != "{Path(net).readlink()}" ]; then\n'
            '    echo "the cluster has ended; start it with: make cluster" >&2\n'
            "    exit 1\n"
            "fi\n"
            f'exec env {dropped} {settings} nsenter {enter} -- env --chdir="$PWD" "$@"\n'
        )
        path.chmod(0o755)


CLONE_NEWNET = 0x40000000

NSENTER_OPTIONS = (("mount", "mnt"), ("pid", "pid"), ("net", "net"), ("ipc", "ipc"))


def tail(log: Path) -> str:
    """The end of a log file, for an error message."""
    if not log.exists():
        return "(no log)"
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def remove_leftovers(parent: Path) -> None:
    """Remove what sandboxes left whose watchdog was killed, too: their lock is held by nobody."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            watchdog.remove(folder)


FOLDER_PREFIX = "pointsman-"


def _make_folder(parent: Path) -> tuple[Path, int]:
    """A new folder, which names the sandbox's cgroups as well, and the held lock that keeps it."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{FOLDER_PREFIX}{secrets.token_hex(4)}"
    unfinished = parent / f".{folder.name}"
    unfinished.mkdir()
    lock = os.open(unfinished / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Only now may anybody find it: a folder without a held lock is swept.
    unfinished.rename(folder)
    return folder, lock


def _enter_node(node: str | None) -> list[str]:
    # Not `ip netns exec`: that mounts /sys anew and hides the cgroups.
    return [] if node is None else ["nsenter", f"--net=/run/netns/{node}", "--"]


def _set_network_namespace(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")
