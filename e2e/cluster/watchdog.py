"""Stands outside a sandbox and removes what is left of it, whoever ended and however.

Run by file name with an isolated Python (`-I -S`), so it may import the standard library only. It is the parent of the
namespaces' first process and lives in a session of its own. When its standard input closes (its owner closed it, or died
in whatever way) or the sandbox ends by itself, it kills what still runs, waits for the last process, removes the cgroups
and the folder, and ends.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
REMOVAL_SECONDS = 10.0


def cgroup_hierarchies() -> list[Path]:
    """Mount points of every cgroup hierarchy, of version 1 and 2."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [Path(fields[1]) for fields in map(str.split, mounts) if fields[2] in {"cgroup", "cgroup2"}]


def remove(folder: Path) -> None:
    """Remove the cgroups named as the folder is, and the folder. Nothing of the sandbox may run any more.

    Raises OSError when a cgroup is still busy after REMOVAL_SECONDS, CalledProcessError when the folder is still there.
    """
    deadline = time.monotonic() + REMOVAL_SECONDS
    for hierarchy in cgroup_hierarchies():
        top = hierarchy / folder.name
        while top.is_dir():
            try:
                _remove_cgroup(top)
            except FileNotFoundError:
                continue  # somebody else removes it, too
            except OSError:
                # The kernel lets go of a cgroup a moment after its last process has ended.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    while folder.is_dir():
        # A third of shutil's CPU time for the thousands of links that are a node's images.
        subprocess.run(["rm", "--recursive", "--force", folder], check=time.monotonic() > deadline)


def _remove_cgroup(cgroup: Path) -> None:
    for child in cgroup.iterdir():
        if child.is_dir():
            _remove_cgroup(child)
    cgroup.rmdir()


def main() -> None:
    folder, python, supervisor, control = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As a subreaper this process inherits the namespaces' first process when `unshare` is killed. That one can be waited
    # for only after the kernel has ended everything else in the PID namespace.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    unshare = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"),
            *(python, "-I", "-S", supervisor, control, f"{folder}/resolv.conf"),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=[int(control)],
    )
    os.close(int(control))
    owner, sandbox = sys.stdin.fileno(), os.pidfd_open(unshare.pid)
    select.select([owner, sandbox], [], [])
    unshare.kill()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    remove(Path(folder))


if __name__ == "__main__":
    main()
