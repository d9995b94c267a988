"""The machine under the bench: which cores are used, what else ran on them, and what kind of machine it is."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The router under test has one core for itself; engine, client and this program share the other."""

    router: int
    load: int


def choose_cores() -> Cores:
    """The two last cores this process may use: core 0 takes most of a machine's interrupts.

    Raises SystemExit when there is only one, since router and load would then measure each other.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("bench: two cores are needed, one for the router and one for the load")
    return Cores(router=allowed[-1], load=allowed[-2])


def core_busy_s(core: int) -> float:
    """Seconds that a core was not idle since boot, time stolen by a hypervisor included."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    raise SystemExit(f"bench: /proc/stat knows no core {core}")


def facts() -> dict[str, object]:
    """What a reader needs to place the numbers."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "virtual": " hypervisor" in cpuinfo,
        "load_average": os.getloadavg(),
    }
