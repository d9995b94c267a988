"""What befalls instances while a trace is played, from a file: `at_s,instance,what[,startup]`.

`instance` is POOL/NUMBER, from 1, as explanations of decisions show it; `what` is one of `fail` (it dies with all that runs
there), `stop` (it takes no more, ends what it runs, and goes) and `start`. An instance whose first event is a start is not
there before it. `startup` says what is there already when an instance starts, and so how long that takes by its profile:
`cold` (unless told otherwise), `image_cached`, `weights_cached`, `asleep`, or a number of seconds.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pointsman.core.perf import StartupTimes
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.options import Happening, InstanceChange
from pointsman.sim.workload.trace_rows import TraceError, shown, text_lines

COLUMNS = ("at_s", "instance", "what")
HAPPENINGS: Mapping[str, Happening] = {
    "fail": Happening.LOST,
    "stop": Happening.DRAINED,
    "start": Happening.STARTED,
}
STARTUPS = ("cold", "image_cached", "weights_cached", "asleep")


def read_instance_events(path: Path, pools: Sequence[Pool]) -> list[InstanceChange]:
    """In the file's order. Raises TraceError, which says file, line and field."""
    startups = {
        f"{pool.name}/{number}": pool.profile.startup for pool in pools for number in range(1, pool.count + 1)
    }
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    changes = []
    try:
        header = next(reader, [])
        for column in COLUMNS:
            if column not in header:
                raise TraceError(path, 1, column, f"is not among the columns {', '.join(header) or '(none)'}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                problem = f"has {len(values)} fields where the header names {len(header)}"
                raise TraceError(path, reader.line_num, None, problem)
            row = dict(zip(header, map(str.strip, values), strict=True))
            changes.append(_change(path, reader.line_num, row, startups))
    except csv.Error as error:
        raise TraceError(path, reader.line_num, None, f"is not CSV: {error}") from error
    if not changes:
        raise TraceError(path, None, None, "holds no events")
    return changes


def _change(
    path: Path, line: int, row: Mapping[str, str], startups: Mapping[str, StartupTimes]
) -> InstanceChange:
    at_s = _seconds(row["at_s"])
    if at_s is None:
        raise TraceError(path, line, "at_s", f"{shown(row['at_s'])} is not a number of seconds from 0")
    if row["instance"] not in startups:
        names = list(startups)
        there = ", ".join(names if len(names) <= 8 else [*names[:7], "...", names[-1]])
        raise TraceError(path, line, "instance", f"{shown(row['instance'])} is none of {there}")
    if row["what"] not in HAPPENINGS:
        raise TraceError(path, line, "what", f"{shown(row['what'])} is none of {', '.join(HAPPENINGS)}")
    startup = row.get("startup", "")
    if row["what"] != "start":
        if startup:
            raise TraceError(path, line, "startup", f"{shown(startup)} says nothing beside {row['what']}")
        return InstanceChange(at_s, row["instance"], HAPPENINGS[row["what"]])
    startup_s = _startup_s(startup or STARTUPS[0], startups[row["instance"]])
    if startup_s is None:
        allowed = f"none of {', '.join(STARTUPS)} and no number of seconds from 0"
        raise TraceError(path, line, "startup", f"{shown(startup)} is {allowed}")
    return InstanceChange(at_s, row["instance"], Happening.STARTED, startup_s)


def _startup_s(startup: str, times: StartupTimes) -> float | None:
    by_name = {
        "cold": times.cold_s,
        "image_cached": times.image_cached_s,
        "weights_cached": times.weights_cached_s,
        "asleep": times.asleep_s,
    }
    return by_name[startup] if startup in by_name else _seconds(startup)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
