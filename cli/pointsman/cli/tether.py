"""`python -m pointsman.cli.tether PID ARGUMENTS...`: the `pointsman` command, for no longer than its parent lives.

Whatever ends the parent, SIGKILL included, the kernel then kills this process: nothing is left running.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies; exit at once where it already has. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    from pointsman.cli.main import main

    main(sys.argv[2:], prog_name="pointsman")
