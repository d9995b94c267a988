"""How long a cluster of this machine takes until it is ready, how long until it is gone, and the CPU that its parts cost.

    PYTHONPATH=. python bench/cluster_start.py [--rounds 5] [--kubernetes 1.36] [--json build/bench/cluster_start.json]

As root, after `make cluster-build`. Control planes and clusters of two nodes take turns. Ready is what the fixtures wait for: the
API server says so, the controller manager has made the default service account, and nodes are ready and without taints.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster import binaries, local

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Start:
    """One start and end: seconds by the clock, and CPU seconds by command until it was ready."""

    nodes: int
    ready_seconds: float
    end_seconds: float
    cpu_seconds: Mapping[str, float]


def start(kubernetes: str, nodes: int) -> Start:
    begun = time.monotonic()
    cluster = local.start_cluster(kubernetes, nodes=nodes) if nodes else local.start_control_plane(kubernetes)
    with cluster:
        ready = time.monotonic()
        used = cpu_seconds(cluster.sandbox.pid)
        ending = time.monotonic()
    return Start(nodes, ready - begun, time.monotonic() - ending, used)


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time by command of whatever runs in the PID namespace of a process, and of their children that have ended."""
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    used: defaultdict[str, float] = defaultdict(float)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "ns/pid").readlink() == namespace:
                before, _, after = (process / "stat").read_text().rpartition(")")
                # user, system, and both of the children; proc(5) counts from the fields before the state
                used[before.partition("(")[2]] += sum(map(int, after.split()[11:15])) / TICKS_PER_SECOND
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return dict(used)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(starts: Sequence[Start]) -> str:
    lines = ["| nodes | ready, s: median (from to) | CPU until then, s | gone, s |", "|---|---|---|---|"]
    for nodes in sorted({start.nodes for start in starts}):
        of_these = [start for start in starts if start.nodes == nodes]
        ready, end = (
            spread([getattr(start, name) for start in of_these]) for name in ("ready_seconds", "end_seconds")
        )
        cpu = spread([sum(start.cpu_seconds.values()) for start in of_these])
        lines.append(f"| {nodes} | {ready} | {cpu} | {end} |")
    lines += ["", "| command, with two nodes where there are two | CPU, s |", "|---|---|"]
    most = [start for start in starts if start.nodes == max(start.nodes for start in starts)]
    mean = {
        command: statistics.mean(start.cpu_seconds.get(command, 0.0) for start in most)
        for command in most[0].cpu_seconds
    }
    lines += [
        f"| {command} | {seconds:.2f} |"
        for command, seconds in sorted(mean.items(), key=lambda item: -item[1])
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--kubernetes", default=binaries.DEFAULT_KUBERNETES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    starts = [
        start(arguments.kubernetes, nodes) for _ in range(arguments.rounds) for nodes in arguments.nodes
    ]
    print(table(starts))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([asdict(start) for start in starts], indent=1) + "\n")


if __name__ == "__main__":
    main()
