"""Many simulations side by side: which ones, on all cores, and what is known of a cluster's capacity."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any, Self

import orjson

from pointsman.cli.simulation import SimulationPlan, run_plan
from pointsman.core.placement.catalogue import POLICIES
from pointsman.sim.report import Report
from pointsman.sim.simulation.kernel import Simulation

DEFAULT_CAPACITY_FILE = Path("bench/decisions/capacity.json")


class CapacityError(ValueError):
    """The capacity of a trace on a cluster is not known; the message says where it was looked for."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a comparison."""

    plan: SimulationPlan
    load: float | None
    """Share of the capacity. None: that is not known."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it."""

    case: Case
    report: Report
    explanations: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {**self.report.as_json(), "load": self.case.load}


def split_policies(text: str) -> list[str]:
    """`a,b:key=1,key2=2,c` or `all`. What has an equals sign and no colon before it belongs to the policy before."""
    if text.strip() == "all":
        return sorted(POLICIES)
    policies: list[str] = []
    for part in text.split(","):
        if policies and "=" in part and ":" not in part.split("=")[0]:
            policies[-1] += f",{part}"
        else:
            policies.append(part.strip())
    return list(dict.fromkeys(policies))


def capacity_of(given: str | None, trace: str, pools: str) -> float:
    """Requests per second: a number, or looked up in a file, a list of {trace, pools, requests_per_s}.

    Raises CapacityError.
    """
    if given is not None:
        try:
            rate = float(given)
        except ValueError:
            pass
        else:
            if rate > 0:
                return rate
            raise CapacityError(f"a capacity must be above 0 requests/s, not {given}")
    file = Path(given) if given is not None else DEFAULT_CAPACITY_FILE
    try:
        entries = orjson.loads(file.read_bytes())
        for entry in entries:
            if entry["trace"] == Path(trace).name.partition("?")[0] and entry["pools"] == pools:
                return float(entry["requests_per_s"])
    except OSError as error:
        raise CapacityError(f"{file}: {error.strerror}; give it as --capacity FILE or RATE") from error
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise CapacityError(f"{file}: is no list of {{trace, pools, requests_per_s}}: {error}") from error
    raise CapacityError(f"{file}: knows no capacity of {pools!r} for {Path(trace).name}")


class Runner:
    """Runs cases on several processes. Entered: they are there. Left: they have ended, whatever they were at."""

    def __init__(self, jobs: int) -> None:
        context = get_context("spawn")  # a fork would inherit whatever threads the libraries have started
        self._pool = ProcessPoolExecutor(jobs, mp_context=context)
        self._manager = SyncManager(ctx=context)
        self._news: Queue[int] | None = None

    def __enter__(self) -> Self:
        resource_tracker.ensure_running()  # it unblocks interrupts where it begins
        try:
            with _interrupts_blocked():
                self._manager.start()
            self._news = self._manager.Queue()
        except KeyboardInterrupt:
            self._manager.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 - it has no public way to end a task
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._manager.shutdown()

    def run(self, cases: Sequence[Case]) -> Iterator[tuple[int, Compared]]:
        """Place and outcome of each case, as they end. Raises what `run_plan` raises."""
        with _interrupts_blocked():
            futures: dict[Future[tuple[Report, Sequence[str]]], int] = {
                self._pool.submit(run_case, case, self._news): number for number, case in enumerate(cases)
            }
        for future in as_completed(futures):
            number = futures[future]
            yield number, Compared(cases[number], *future.result())

    def ended(self) -> int:
        """Requests that ended since the last call."""
        total = 0
        while self._news is not None and not self._news.empty():
            total += self._news.get()
        return total


def default_jobs() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that begin meanwhile never hear an interrupt, not even before their first line: the parent decides what one means.

    It does so afterwards: raises KeyboardInterrupt. A thread of a library's may have heard it where this one does not.
    """
    heard: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    previous = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if heard:
        raise KeyboardInterrupt


def run_case(case: Case, news: "Queue[int] | None") -> tuple[Report, Sequence[str]]:
    """Report and explanations. The case stays here: its plan holds profiles by now, which a compiled core cannot unpickle."""
    told = planned = 0

    def on_start(_: Simulation, requests: int) -> None:
        nonlocal planned
        planned = requests

    def tell(ended: int) -> None:
        nonlocal told
        if news is not None:
            news.put(ended - told)
        told = ended

    ran = run_plan(case.plan, on_start, tell)
    tell(planned)
    return ran.report, ran.result.explanations
