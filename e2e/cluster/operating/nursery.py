"""Imports the operator once and forks it as often as it is asked to: a test that kills it fifty times has no time to import
it fifty times. What is forked is a process like any other, and dies like one.

Lines on standard input: `start ARGUMENT...` (JSON list; answers with the pid), `wait PID` (answers with its exit status).
"""

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path

MODULES = (
    "pointsman.cli.controller",
    "pointsman.controller.app",
    "pointsman.controller.logs",
    "pointsman.kube.access",
)
PR_SET_PDEATHSIG = 1


def main() -> None:
    for module in MODULES:
        importlib.import_module(module)
    print("ready", flush=True)  # noqa: T201 - the protocol
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer = _start(order["start"], order["environment"], Path(order["log"]))
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        print(answer, flush=True)  # noqa: T201


def _start(arguments: list[str], environment: dict[str, str], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    command = importlib.import_module("pointsman.cli.controller").command
    command.main(args=arguments, prog_name="pointsman controller")
    raise AssertionError("click's main ends the process")


if __name__ == "__main__":
    main()
