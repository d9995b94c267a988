"""Runs inside engine images as `python3 -c`: standard library only, any Python from 3.9; see `objects.drain`."""

import sys
import time
from pathlib import Path

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
ESTABLISHED = "01"
LOOPBACK = "00000000000000000000000001000000"  # ::1, as the kernel writes it
QUIET_POLLS = 2


def connected(table: str) -> bool:
    """Whether the kernel's table of TCP connections holds one to another machine or pod."""
    for line in table.splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        here, there = local.split(":")[0], remote.split(":")[0]
        ipv4 = len(there) == 8 or there[:24] == "0000000000000000FFFF0000"
        itself = there in {here, LOOPBACK} or (ipv4 and there[-2:] == "7F")
        if state == ESTABLISHED and not itself:
            return True
    return False


def main(seconds: float, tables: tuple[str, ...] = TABLES, pause_s: float = 1.0) -> None:
    """Wait until nothing in this pod is connected to another one, several polls in a row, for no longer than so many
    seconds.
    """
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < QUIET_POLLS and time.monotonic() < end:
        time.sleep(min(pause_s, max(0.0, end - time.monotonic())))
        texts = [Path(table).read_text() for table in tables if Path(table).exists()]  # there may be no IPv6
        quiet = 0 if any(map(connected, texts)) else quiet + 1


if __name__ == "__main__":
    main(float(sys.argv[1]))
