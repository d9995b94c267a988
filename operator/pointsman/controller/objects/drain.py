"""How an engine's pod ends: the endpoint is gone from routers at once, the engine goes on until what it runs has ended.

Kubernetes marks the pod as terminating (routers see the deletion timestamp), runs the preStop hook, and only then sends
SIGTERM. vLLM refuses new requests as soon as SIGTERM has come, the one-token legs by which a running request is handed
over included; so the waiting belongs into the hook, which asks the engine's own metrics. What is left when the hook's time
is up gets the engine's own drain within the rest of the grace time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

LONGEST_TAIL_S = 30


@dataclass(frozen=True, slots=True)
class GraceTime:
    """Seconds of a pod's end, which together are no more than its grace time."""

    total_s: int
    hook_s: int
    """What the preStop hook may take."""
    engine_s: int
    """What the engine itself gets after SIGTERM for what still runs."""


def split_grace(total_s: int) -> GraceTime:
    """A quarter, at most 30 s, is the engine's own; a second of it is for the process to end."""
    tail_s = max(1, min(LONGEST_TAIL_S, total_s // 4))
    return GraceTime(total_s, max(0, total_s - tail_s), max(0, tail_s - 1))


def pre_stop(port: int, metrics: Iterable[str], grace: GraceTime) -> dict[str, Any]:
    """The hook: waits until the sum of these metrics is zero. Needs `python3` in the image, which vLLM's, SGLang's and
    Pointsman's own have.
    """
    return _hook("wait_until_idle.py", f"http://127.0.0.1:{port}/metrics", str(grace.hook_s), *metrics)


def worker_pre_stop(grace: GraceTime) -> dict[str, Any]:
    """The hook of an instance's other nodes: all its pods are deleted at once, and the first can end what it runs only as
    long as the others work for it. Connections tell: the first one's name is gone from DNS by then.
    """
    return _hook("wait_while_connected.py", str(grace.total_s - 1))


def _hook(program: str, *arguments: str) -> dict[str, Any]:
    return {"exec": {"command": ["python3", "-c", _text(program), *arguments]}}


@cache
def _text(program: str) -> str:
    return (files("pointsman.controller.inside") / program).read_text()
