"""Where a router under test lives: the machine's own loopback, or a network namespace of the bench's own."""

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dataplane.processes import Running

FETCH = "import sys; from dataplane.network import fetch; print(fetch(int(sys.argv[1]), sys.argv[2]), end='')"


@dataclass(frozen=True)
class Network:
    """`prefix` is put before a command that is to run inside."""

    prefix: tuple[str, ...] = ()

    def fetch(self, port: int, path: str) -> str:
        """Body of a GET to loopback inside, raising OSError unless it was answered with 200."""
        if not self.prefix:
            return fetch(port, path)
        argv = [*self.prefix, sys.executable, "-c", FETCH, str(port), path]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
        if done.returncode != 0:
            raise OSError(done.stderr.strip().rpartition("\n")[2])
        return done.stdout


HOST = Network()


def fetch(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    except http.client.HTTPException as error:
        raise OSError(f"GET {path}: {error!r}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"GET {path} was answered with {answer.status}")
    return body


def why_no_namespace() -> str | None:
    """The reason why a namespace of our own cannot be had here, or None."""
    missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if os.geteuid() != 0:
        return "a network namespace needs root"
    return None


@contextmanager
def own_namespace(core: int) -> Iterator[Network]:
    """A network namespace with nothing but loopback; it ends with the process that holds it."""
    script = "ip link set lo up && echo up && exec sleep infinity"
    with subprocess.Popen(
        ["taskset", "-c", str(core), "unshare", "--net", "sh", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "up\n":
                raise RuntimeError("bench: unshare --net failed")
            yield Network(("nsenter", f"--net=/proc/{holder.pid}/ns/net"))
        finally:
            holder.kill()


def require_ready(process: Running, network: Network, port: int, path: str, expected: str) -> None:
    """Wait until a GET brings `expected`; see `Running.wait_until`."""

    def ready() -> bool:
        try:
            return expected in network.fetch(port, path)
        except OSError:
            return False

    process.wait_until(ready)
