"""What a control plane says of itself: what the API server was asked and by whom, how long it took, who used the CPU."""

import json
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from controller.sampling import WRITES, cpu_s
from e2e.cluster.local import LocalCluster

DURATION = re.compile(
    r'^apiserver_request_duration_seconds_(sum|count)\{.*verb="(\w+)".*\} ([0-9.eE+-]+)$', re.MULTILINE
)
VERBS = ("APPLY", "POST", "PUT", "PATCH", "DELETE", "GET", "LIST")


@dataclass(frozen=True, slots=True)
class Sample:
    """At one moment, from the start on."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    """By process."""
    calls: dict[str, float] = field(default_factory=dict)
    """By verb, as the API server counts them; watches are none."""
    seconds: dict[str, float] = field(default_factory=dict)
    """That it took for them."""
    writes: dict[str, int] = field(default_factory=dict)
    """By account, as its audit log says."""


def sample(cluster: LocalCluster) -> Sample:
    """Blocks: it reads the whole audit log."""
    text = cluster.control_plane.get("/metrics")[1].decode()
    totals: dict[str, defaultdict[str, float]] = {"sum": defaultdict(float), "count": defaultdict(float)}
    for what, verb, value in DURATION.findall(text):
        if verb in VERBS:
            totals[what][verb] += float(value)
    return Sample(
        cpu_s=_cpu_by_process(cluster.sandbox.pid),
        calls=dict(totals["count"]),
        seconds=dict(totals["sum"]),
        writes=_writes_by_account(cluster.control_plane.audit_log),
    )


def difference(before: Sample, after: Sample, seconds: float) -> dict[str, dict[str, float]]:
    calls = {verb: count - before.calls.get(verb, 0.0) for verb, count in after.calls.items()}
    return {
        "cpu_cores": {
            name: (spent - before.cpu_s.get(name, 0.0)) / seconds
            for name, spent in sorted(after.cpu_s.items())
        },
        "api_server_calls": calls,
        "api_server_mean_s": {
            verb: (after.seconds[verb] - before.seconds.get(verb, 0.0)) / count
            for verb, count in calls.items()
            if count
        },
        "writes_by_account": {
            name: count - before.writes.get(name, 0)
            for name, count in sorted(after.writes.items(), key=lambda entry: -entry[1])
            if count != before.writes.get(name, 0)
        },
    }


def _cpu_by_process(supervisor: int) -> dict[str, float]:
    """The supervisor's children are etcd, API server and the like."""
    found: defaultdict[str, float] = defaultdict(float)
    for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        name = Path(f"/proc/{child}/comm").read_text().strip()
        found[name] += cpu_s(int(child))
    found["whole machine"] = _machine_cpu_s()
    return dict(found)


def _machine_cpu_s() -> float:
    """Busy time of all cores: what others used is in it."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _writes_by_account(audit_log: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    with audit_log.open() as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # its last line is being written
                continue
            if entry["verb"] in WRITES and entry.get("objectRef", {}).get("resource") != "leases":
                found[entry["user"]["username"].rsplit(":", 1)[-1]] += 1
    return dict(found)
