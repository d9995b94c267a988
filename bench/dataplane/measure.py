"""One measured run, and several of them interleaved: A B C A B C, with runs thrown away that others disturbed."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from dataplane.load import Engines, Load, run_client
from dataplane.machine import Cores, core_busy_s
from dataplane.sides import Endpoint, Side

FOREIGN_LIMIT = 0.05  # of a core, by anything that is not of this bench
QUIET_S = 5.0


@dataclass
class Run:
    """One side under one load. CPU seconds are those of the router's process tree in the measured window."""

    side: str
    report: dict[str, Any]
    wall_s: float
    router_cpu_s: float
    load_cpu_s: float  # engines, client and a side's own helpers
    foreign: dict[str, float]  # share of each core that something else took
    accepted: bool
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        return sum(self.report["errors"].values())

    def per_cpu_s(self, what: str) -> float:
        """`requests` or `events` per CPU second of the router."""
        return float(self.report[what]) / self.router_cpu_s if self.router_cpu_s else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Meter:
    """Reads the clocks as the client's window opens and closes."""

    def __init__(self, cores: Cores, endpoint: Endpoint, engines: Engines | None) -> None:
        self._cores = cores
        self._router = endpoint.router
        self._load = [*endpoint.helpers, *([engines] if engines else [])]
        self._opened = self._closed = (0.0, 0.0, 0.0, 0.0, 0.0)

    def _read(self) -> tuple[float, float, float, float, float]:
        return (
            time.monotonic(),
            self._router.cpu_s() if self._router else 0.0,
            sum(each.cpu_s() for each in self._load),
            core_busy_s(self._cores.router),
            core_busy_s(self._cores.load),
        )

    def open(self) -> None:
        self._opened = self._read()

    def close(self) -> None:
        self._closed = self._read()

    def run(self, side: str, report: dict[str, Any], client_cpu_s: float) -> Run:
        wall, router, load, router_busy, load_busy = (
            after - before for before, after in zip(self._opened, self._closed, strict=True)
        )
        load += client_cpu_s
        foreign = {"router": max(router_busy - router, 0) / wall, "load": max(load_busy - load, 0) / wall}
        return Run(side, report, wall, router, load, foreign, max(foreign.values()) <= FOREIGN_LIMIT)


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    cores: Cores
    rounds: int
    retries: int
    say: Callable[[str], None]

    def run_once(
        self, side: Side, load: Load, engines: Engines | None, ports: Sequence[int] | None = None
    ) -> Run:
        """Start the side afresh, load it, end it. A side that does not come up gets a second chance."""
        try:
            return self._run(side, load, engines, ports)
        except RuntimeError as error:
            self.say(f"  {side.name}: {error}\n  {side.name}: again")
            return self._run(side, load, engines, ports)

    def _run(self, side: Side, load: Load, engines: Engines | None, ports: Sequence[int] | None) -> Run:
        with ExitStack() as stack:
            serving = ports if ports is not None else engines.ports if engines else ()
            endpoint = stack.enter_context(side.start(serving, self.cores))
            return self.drive(side.name, endpoint, load, engines)

    def drive(self, name: str, endpoint: Endpoint, load: Load, engines: Engines | None) -> Run:
        """Load a side that runs already."""
        meter = Meter(self.cores, endpoint, engines)
        argv = [*endpoint.network.prefix, *load.argv(endpoint.port, endpoint.headers)]
        window = run_client(argv, core=self.cores.load, on_begin=meter.open, on_end=meter.close)
        return meter.run(name, window.report, window.client_cpu_s)

    def quietly(self, attempt: Callable[[], Run]) -> list[Run]:
        """Attempt until a run is undisturbed, some times more; all attempts, the least disturbed last."""
        attempts = [attempt()]
        while not attempts[-1].accepted and len(attempts) <= self.retries:
            foreign = ", ".join(f"{core} core {share:.0%}" for core, share in attempts[-1].foreign.items())
            self.say(f"  {attempts[-1].side}: disturbed ({foreign}), again")
            time.sleep(QUIET_S)
            attempts.append(attempt())
        if not attempts[-1].accepted:
            attempts.sort(key=lambda run: -max(run.foreign.values()))
        return attempts

    def interleave(self, attempts: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
        """Rounds of all sides in turn, so that a slow minute of the machine hits each of them."""
        runs: dict[str, list[Run]] = {name: [] for name in attempts}
        for number in range(1, self.rounds + 1):
            for name, attempt in attempts.items():
                tried = self.quietly(attempt)
                runs[name] += tried
                used = tried[-1]
                trouble = f", {used.errors} errors: {used.report['errors']}" if used.errors else ""
                self.say(
                    f"  round {number}/{self.rounds} {name}: {used.report['requests']} requests,"
                    f" {used.report['events']} events, {used.router_cpu_s:.2f} CPU s in {used.wall_s:.1f} s{trouble}"
                )
        return runs


def used_runs(runs: Sequence[Run], rounds: int) -> list[Run]:
    """The undisturbed runs; where a round had none, its least disturbed attempts fill up."""
    accepted = [run for run in runs if run.accepted]
    rest = sorted((run for run in runs if not run.accepted), key=lambda run: max(run.foreign.values()))
    return accepted + rest[: max(rounds - len(accepted), 0)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
