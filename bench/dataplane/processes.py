"""Processes that the bench starts: pinned to a core, measured from /proc, and ended again whatever happens."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dataplane.machine import TICKS_PER_S

GRACE_S = 10.0


class Running:
    """A process and its descendants; a context manager that ends them."""

    def __init__(
        self, argv: Sequence[str], *, core: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            self.popen = subprocess.Popen(
                ["taskset", "-c", str(core), *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM to the group, SIGKILL after the grace time."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, number)
                self.popen.wait(GRACE_S)
            except ProcessLookupError:
                self.popen.wait()
                return
            except subprocess.TimeoutExpired:
                continue
            return

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = 60) -> None:
        """Ask `ready` until it says yes.

        Raises RuntimeError when the process ends first or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if ready():
                return
            if self.popen.poll() is not None:
                break
            time.sleep(0.1)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"never became ready: {self.popen.args!r}\n{self.log} ends:\n{tail}")

    def cpu_s(self) -> float:
        return cpu_s(self.popen.pid)

    def rss_bytes(self) -> int:
        """Resident memory of the tree."""
        return sum(int(_stat(pid)[21]) for pid in _tree(self.popen.pid)) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and its descendants since their start, ended children included."""
    return sum(sum(map(int, _stat(each)[11:15])) for each in _tree(pid)) / TICKS_PER_S


def _tree(root: int) -> list[int]:
    found, unvisited = [], [root]
    while unvisited:
        pid = unvisited.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            unvisited += map(int, (task / "children").read_text().split())
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command: 0 is the state, 11-14 are the CPU times, 21 is the RSS in pages."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
