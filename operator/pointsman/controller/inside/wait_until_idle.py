"""Runs inside engine images as `python3 -c`: standard library only, any Python from 3.9; see `objects.drain`."""

import socket
import sys
import time
import urllib.request

QUIET_POLLS = 4


def left(url: str, names: list[str], timeout_s: float) -> float:
    """Requests in the engine. Proxies of the environment are not asked: it is this very pod."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout_s) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] in names)


def main(url: str, seconds: float, names: list[str], pause_s: float = 1.0, timeout_s: float = 5.0) -> None:
    """Wait until the engine is idle or gone, several polls in a row: routers that have not yet heard of the end still
    send, and a hand-over comes as a new request. No longer than so many seconds.
    """
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < QUIET_POLLS and time.monotonic() < end:
        time.sleep(min(pause_s, max(0.0, end - time.monotonic())))
        try:
            quiet = 0 if left(url, names, timeout_s) > 0 else quiet + 1
        except OSError as error:
            # One that has no time to answer is busy; one that is gone refuses at once.
            quiet = 0 if isinstance(getattr(error, "reason", error), socket.timeout) else quiet + 1


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
