"""One command, timed from outside: its start, its imports and the writing of its report are part of what it takes."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class CommandError(RuntimeError):
    """A command that did not end well; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Timed:
    wall_s: float
    cpu_s: float
    """User and system, of the process and what it waited for."""
    peak_bytes: int
    """Largest resident memory."""


def timed(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Timed:
    """Run it with our environment and `env`, what it prints going to `log`.

    The kernel counts the memory of whoever started it as the process's own until it is another program: keep the caller
    small. Raises CommandError.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            argv,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - start_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise CommandError(f"{' '.join(argv)} ended with {process.returncode}:\n{tail}")
    return Timed(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
