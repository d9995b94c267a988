"""First process inside a sandbox's namespaces: starts what it is told to, and reaps.

Run by file name with an isolated Python (`-I -S`), so it may import the standard library only. Its orders come as JSON
lines over an inherited socket from the process that owns the sandbox. When that socket closes, it ends, and the kernel
ends every other process of the PID namespace with it.

Orders and answers:

    {"start": NAME, "argv": [...], "environment": {...}, "log": PATH, "restart": false}  ->  {} or {"error": "..."}
    {"signal": NAME, "number": 9}                                                        ->  {}
    {"status": true}                                    ->  {"running": [NAME...], "ended": {NAME: code}}

What is to be restarted is started again, a moment after it has ended by itself, until it is told to end by a signal.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REAP_SECONDS = 0.1
RESTART_SECONDS = 0.3


class Supervisor:
    """The named processes of one sandbox, and what became of them."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._restarted: dict[str, dict[str, Any]] = {}
        self._restart_at: dict[str, float] = {}

    def handle(self, order: dict[str, Any]) -> dict[str, Any]:
        if "start" in order:
            return self._start(order)
        if "signal" in order:
            self._restarted.pop(order["signal"], None)
            self._restart_at.pop(order["signal"], None)
            pid = self._pids.get(order["signal"])
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, order["number"])
            return {}
        return {"running": sorted(self._pids), "ended": self._ended}

    def _start(self, order: dict[str, Any]) -> dict[str, Any]:
        name, argv = order["start"], order["argv"]
        if name in self._pids:
            return {"error": f"{name} is running already"}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawnp(
                argv[0],
                argv,
                order["environment"],
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, order["log"], flags, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            return {"error": f"{name}: {argv[0]} does not start: {error}"}
        self._pids[name] = pid
        self._ended.pop(name, None)
        if order["restart"]:
            self._restarted[name] = order
        return {}

    def reap(self) -> None:
        """Collect every ended process: our own, and orphans, whose parent is now this one."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name in [name for name, owned in self._pids.items() if owned == pid]:
                del self._pids[name]
                if name in self._restarted:
                    self._restart_at[name] = time.monotonic() + RESTART_SECONDS
                else:
                    self._ended[name] = os.waitstatus_to_exitcode(status)

    def restart_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self._restart_at.items() if at <= now]:
            del self._restart_at[name]
            self._start(self._restarted[name])


def make_private(resolv_conf: str) -> None:
    """Hide the host's changing folders, so that nothing inside meets or leaves anything there."""
    host_resolv_conf = Path("/etc/resolv.conf").resolve()
    _mount("-t", "tmpfs", "tmpfs", "/run")
    # Not everything has a setting: CNI's results in /var/lib/cni, the kubelet's links in /var/log/containers. What is
    # written there stays in memory.
    for folder in ("/var/lib", "/var/log"):
        upper, work = Path(f"/run/overlay{folder}/upper"), Path(f"/run/overlay{folder}/work")
        for layer in (upper, work):
            layer.mkdir(parents=True)
        _mount("-t", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", "overlay", folder)
    if not host_resolv_conf.exists():  # a link into the /run that was just hidden
        host_resolv_conf.parent.mkdir(parents=True, exist_ok=True)
        host_resolv_conf.touch()
    _mount("--bind", resolv_conf, str(host_resolv_conf))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def serve(control: socket.socket) -> None:
    """Answer orders until the owner's end of the socket closes."""
    supervisor = Supervisor()
    unread = b""
    while True:
        readable, _, _ = select.select([control], [], [], REAP_SECONDS)
        supervisor.reap()
        supervisor.restart_due()
        if not readable:
            continue
        received = control.recv(1 << 16)
        if not received:
            return
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            control.sendall(json.dumps(supervisor.handle(json.loads(line))).encode() + b"\n")


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)  # noqa: FBT003 - positional only
    # Ctrl-C is for the owner of the sandbox: it closes the socket when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make_private(sys.argv[2])
    control.sendall(b'{"ready": true}\n')
    serve(control)


if __name__ == "__main__":
    main()
