"""What befalls instances while a trace is played, from a file: `at_s,instance,what[,startup]`.

`instance` is POOL/NUMBER, from 1, as explanations of decisions show it; `what` is one of `fail` (it dies with all that runs
there), `stop` (it takes no more, ends what it runs, and goes) and `start`. An instance whose first event is a start is not
there before it. `startup` says what is there already when an instance starts, and so how long that takes by its profile:
`cold` (unless told otherwise), `image_cached`, `weights_cached`, `asleep`, or a number of seconds.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pointsman.core.perf import StartupTimes
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.options import Happening, InstanceChange
from pointsman.sim.workload.trace_rows import Row, TraceError, csv_rows, shown

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
    changes = [_change(row, startups) for row in csv_rows(path, COLUMNS)]
    if not changes:
        raise TraceError(path, None, None, "holds no events")
    return changes


def _change(row: Row, startups: Mapping[str, StartupTimes]) -> InstanceChange:
    at, instance, what, startup = (row.text(name).strip() for name in (*COLUMNS, "startup"))
    at_s = _seconds(at)
    if at_s is None:
        raise TraceError(row.path, row.line, "at_s", f"{shown(at)} is not a number of seconds from 0")
    if instance not in startups:
        names = list(startups)
        there = ", ".join(names if len(names) <= 8 else [*names[:7], "...", names[-1]])
        raise TraceError(row.path, row.line, "instance", f"{shown(instance)} is none of {there}")
    if what not in HAPPENINGS:
        raise TraceError(row.path, row.line, "what", f"{shown(what)} is none of {', '.join(HAPPENINGS)}")
    if what != "start":
        if startup:
            raise TraceError(row.path, row.line, "startup", f"{shown(startup)} says nothing beside {what}")
        return InstanceChange(at_s, instance, HAPPENINGS[what])
    startup_s = _startup_s(startup or STARTUPS[0], startups[instance])
    if startup_s is None:
        allowed = f"none of {', '.join(STARTUPS)} and no number of seconds from 0"
        raise TraceError(row.path, row.line, "startup", f"{shown(startup)} is {allowed}")
    return InstanceChange(at_s, instance, Happening.STARTED, startup_s)


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
