"""Several workloads as one, each part a tenant: `merge:chat[scale=2,priority=1]=conv.csv.gz;batch=gen:azure-code?rate=3`.

All parts begin at once and go on until each is at its end. They share nothing: prefix blocks, sessions and programs are
made distinct.
"""

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from pointsman.sim.workload.parameters import WorkloadNameError
from pointsman.sim.workload.request import TraceRequest, Workload, count_requests
from pointsman.sim.workload.scale import Copy

FORM = "TENANT[scale=X,priority=N]=SOURCE, its brackets left out or not"
MOST_PRIORITY = 1000
_PART = re.compile(r"(?P<tenant>[A-Za-z0-9_.-]+)(\[(?P<options>[^\]]*)\])?=(?P<source>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the merged."""

    tenant: str
    source: str
    """A trace's or a generator's name."""
    scale: float = 1.0
    """Times its own rate."""
    priority: int | None = None
    """Of all its requests; None: their own."""


def parse_parts(text: str) -> list[Part]:
    """Parts separated by semicolons. Raises WorkloadNameError."""
    parts = []
    for number, written in enumerate(text.split(";"), 1):
        where = f"merge: part {number}"
        match = _PART.fullmatch(written.strip())
        if match is None or match["source"].startswith("merge:"):
            raise WorkloadNameError(f"{where}: {written.strip()!r} is not {FORM}")
        scale, priority = 1.0, None
        for option in filter(None, map(str.strip, (match["options"] or "").split(","))):
            name, _, value = option.partition("=")
            if name == "scale":
                scale = _above_0(where, value)
            elif name == "priority":
                priority = _priority(where, value)
            else:
                raise WorkloadNameError(f"{where}: {name!r} is no option; there are scale, priority")
        parts.append(Part(match["tenant"], match["source"], scale, priority))
    return parts


def _above_0(where: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WorkloadNameError(f"{where}: scale={value}: not a number above 0")
    return number


def _priority(where: str, value: str) -> int:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and int(digits) <= MOST_PRIORITY):
        allowed = f"a whole number from {-MOST_PRIORITY} to {MOST_PRIORITY}"
        raise WorkloadNameError(f"{where}: priority={value}: not {allowed}")
    return int(value)


@dataclass(frozen=True, slots=True)
class Merged:
    """Parts and their workloads, the latter scaled already."""

    parts: tuple[tuple[Part, Workload], ...]

    def __iter__(self) -> Iterator[TraceRequest]:
        labelled = [
            map(_Label(part, Copy(number, len(self.parts))), workload)
            for number, (part, workload) in enumerate(self.parts)
        ]
        return heapq.merge(*labelled, key=attrgetter("arrival_s"))

    def request_count(self) -> int:
        return sum(count_requests(workload) for _, workload in self.parts)


@dataclass(frozen=True, slots=True)
class _Label:
    """Makes a request one of a part's."""

    part: Part
    copy: Copy

    def __call__(self, request: TraceRequest) -> TraceRequest:
        copy = self.copy(request)
        copy.tenant = self.part.tenant
        if self.part.priority is not None:
            copy.priority = self.part.priority
        return copy
