"""Clusters that `pointsman up` runs on this machine say so in a file, so that `pointsman replay` knows what it loads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from pointsman.http.client import parse_url

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """What `up` knows of its cluster."""

    pid: int
    """Of `up` itself."""
    engines: tuple[str, ...]
    """Base URLs."""
    pools: str


def runtime_folder() -> Path:
    """This user's own folder for what runs now, by the XDG base directory specification."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(runtime) if runtime else Path(cache) if cache else Path.home() / ".cache") / "pointsman"


@contextmanager
def announced(url: str, cluster: RunningCluster) -> Iterator[None]:
    """The cluster can be found by its URL while the block runs. What killed ones left is removed. Raises OSError."""
    file = _file(url)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in file.parent.glob("up-*.json"):
        if _read(other) is None:
            other.unlink(missing_ok=True)
    file.write_bytes(orjson.dumps(asdict(cluster)))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def find_cluster(url: str) -> RunningCluster | None:
    """The cluster that `up` runs behind a URL on this machine; None where there is none, or only one that was killed."""
    if parse_url(url)[0].host not in LOOPBACK:
        return None
    return _read(_file(url))


def _read(file: Path) -> RunningCluster | None:
    """None: what it tells of does not run, or it is none of ours."""
    try:
        told = orjson.loads(file.read_bytes())
        cluster = RunningCluster(int(told["pid"]), tuple(told["engines"]), str(told["pools"]))
        os.kill(cluster.pid, 0)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return cluster


def _file(url: str) -> Path:
    return runtime_folder() / f"up-{parse_url(url)[0].port}.json"
