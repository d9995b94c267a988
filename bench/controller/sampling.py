"""What an operator's process says of itself: its metrics, and its CPU time and memory as the kernel counts them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import aiohttp

SAMPLE = re.compile(r"^(pointsman_operator_\w+?)(?:\{(.*)\})? ([0-9.eE+-]+|\+Inf|NaN)$", re.MULTILINE)
WRITES = ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Sample:
    """At one moment."""

    cpu_s: float
    memory_mib: float
    reconciles: float
    calls: float
    writes: float
    """To anything but Leases."""


async def sample(port: int, pid: int) -> Sample:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    found = [(name, labels or "", float(value)) for name, labels, value in SAMPLE.findall(text)]
    calls = [entry for entry in found if entry[0] == "pointsman_operator_api_calls_total"]
    return Sample(
        cpu_s=cpu_s(pid),
        memory_mib=_memory_mib(pid),
        reconciles=sum(value for name, _, value in found if name == "pointsman_operator_reconciles_total"),
        calls=sum(value for _, labels, value in calls if '"leases"' not in labels),
        writes=sum(
            value
            for _, labels, value in calls
            if '"leases"' not in labels and any(f'verb="{verb}"' in labels for verb in WRITES)
        ),
    )


def cpu_s(pid: int) -> float:
    """Of a process, its children not included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
