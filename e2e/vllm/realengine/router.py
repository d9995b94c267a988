"""`pointsman router` as a process, in front of engines that are there already."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from realengine.engine import MODEL, free_ports

READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Backend:
    """One instance as the router is told of it."""

    url: str
    role: str = "mixed"
    connector: str = "none"


@dataclass(frozen=True, slots=True)
class Router:
    """A running router. `admin` serves its metrics."""

    url: str
    admin: str
    log: Path


def configuration(
    backends: Sequence[Backend], port: int, admin_port: int, model: dict[str, Any]
) -> dict[str, Any]:
    instances = [{"url": each.url, "role": each.role, "connector": each.connector} for each in backends]
    return {
        "models": [{"name": MODEL, "instances": instances, "policy": "round_robin", **model}],
        "listen": {"port": port},
        "admin": {"port": admin_port},
        "open_access": {"may_explain": True},
    }


@contextmanager
def routing(backends: Sequence[Backend], folder: Path, **model: Any) -> Iterator[Router]:
    """A router that is ready; `model` holds more fields of the model's configuration."""
    port, admin_port = free_ports(2)
    file, log = folder / f"router-{port}.yaml", folder / f"router-{port}.log"
    file.write_text(yaml.safe_dump(configuration(backends, port, admin_port, model)))
    with log.open("wb") as sink:
        command = [str(Path(sys.executable).with_name("pointsman")), "router", "--config", str(file)]
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    router = Router(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", log)
    try:
        await_ready(router, process)
        yield router
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_ready(router: Router, process: subprocess.Popen[bytes]) -> None:
    """Wait for /ready. Raises RuntimeError with the router's log."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{router.admin}/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the router is not ready:\n{router.log.read_text()}")
