"""Programs under way: which call arrives when, and how long each program took.

Pure bookkeeping: told of calls that ended, it says which others follow. A program fails with the first call that is
rejected or fails; calls of it that run then go on, and none follows.
"""

from array import array
from dataclasses import dataclass, field
from math import inf

from pointsman.core.queueing.deadline_share import due_s
from pointsman.core.units import PS_PER_S, to_ps
from pointsman.sim.report import WARM_UP_SHARE, ProgramReport, distribution
from pointsman.sim.workload.program import Program
from pointsman.sim.workload.request import TraceRequest, Workload, count_programs


class ProgramRun:
    """One program from its arrival on."""

    __slots__ = ("arrived_ps", "ended", "failed", "first", "followers", "measured", "missing", "program")

    def __init__(self, first: TraceRequest, program: Program, arrived_ps: int, *, measured: bool) -> None:
        self.first = first
        """As what it arrived."""
        self.program = program
        self.arrived_ps = arrived_ps
        self.measured = measured
        """Not one of the first, which warm up."""
        self.missing = [len(call.after) for call in program.calls]
        """How many each call still waits for."""
        self.followers: list[list[int]] = [[] for _ in program.calls]
        """Which calls wait for each."""
        for place, call in enumerate(program.calls):
            for former in call.after:
                self.followers[former].append(place)
        self.ended = 0
        self.failed = False


@dataclass(slots=True)
class ProgramCall:
    """A call that arrives, or has arrived."""

    run: ProgramRun
    place: int
    at_ps: int
    request: TraceRequest
    due_s: float


@dataclass(slots=True)
class ProgramFigures:
    """Of all programs but the first tenth."""

    completed: int = 0
    failed: int = 0
    with_deadline: int = 0
    in_time: int = 0
    response_s: "array[float]" = field(default_factory=lambda: array("d"))
    per_token_s: "array[float]" = field(default_factory=lambda: array("d"))
    """Response time by all the tokens that a program generated."""


class Programs:
    """All programs of a simulation."""

    __slots__ = ("_number", "_scheduled", "_warm_up", "_workload", "begun", "figures", "running")

    def __init__(self, workload: Workload) -> None:
        self.figures = ProgramFigures()
        self.begun = 0
        self._workload = workload
        self._warm_up = 0
        """How many of the first are not measured. Programs are counted only when there is one."""
        self.running = 0
        """Measured ones that have neither ended nor failed."""
        self._number = 0
        self._scheduled: dict[int, ProgramCall] = {}

    @property
    def pending(self) -> bool:
        """Whether calls are still to arrive."""
        return bool(self._scheduled)

    def begin(self, first: TraceRequest, program: Program, now_ps: int) -> list[ProgramCall]:
        """The calls with which it begins."""
        if not self.begun:
            self._warm_up = int(count_programs(self._workload) * WARM_UP_SHARE)
        run = ProgramRun(first, program, now_ps, measured=self.begun >= self._warm_up)
        self.begun += 1
        self.running += run.measured
        return [self._call(run, place, now_ps) for place, missing in enumerate(run.missing) if not missing]

    def schedule(self, call: ProgramCall) -> int:
        """Keep a call that has yet to arrive; a number for `arrived`."""
        self._number += 1
        self._scheduled[self._number] = call
        return self._number

    def arrived(self, number: int) -> ProgramCall:
        return self._scheduled.pop(number)

    def ended(self, call: ProgramCall, now_ps: int, *, completed: bool) -> list[ProgramCall]:
        """A call ended; those that follow, each with the time when it arrives."""
        run = call.run
        if run.failed:
            return []
        if not completed:
            self._fail(run)
            return []
        run.ended += 1
        if run.ended == len(run.program.calls):
            self._complete(run, now_ps)
            return []
        following = []
        for place in run.followers[call.place]:
            run.missing[place] -= 1
            if not run.missing[place]:
                tool_ps = to_ps(run.program.calls[place].tool_s)
                following.append(self._call(run, place, now_ps + tool_ps))
        return following

    def _call(self, run: ProgramRun, place: int, at_ps: int) -> ProgramCall:
        first, call, program = run.first, run.program.calls[place], run.program
        request = TraceRequest(
            at_ps / PS_PER_S,
            call.prompt_tokens,
            call.output_tokens,
            call.hash_ids,
            first.session_id,
            first.program_id,
            first.tenant,
            first.priority,
        )
        deadline_s = run.arrived_ps / PS_PER_S + program.deadline_s
        return ProgramCall(
            run, place, at_ps, request, due_s(at_ps / PS_PER_S, deadline_s, call.deadline_share)
        )

    def _fail(self, run: ProgramRun) -> None:
        run.failed = True
        if run.measured:
            self.running -= 1
            self.figures.failed += 1
            self.figures.with_deadline += run.program.deadline_s < inf

    def _complete(self, run: ProgramRun, now_ps: int) -> None:
        if not run.measured:
            return
        self.running -= 1
        figures, program = self.figures, run.program
        took_ps = now_ps - run.arrived_ps
        figures.completed += 1
        figures.response_s.append(took_ps / PS_PER_S)
        tokens = sum([call.output_tokens for call in program.calls])
        figures.per_token_s.append(took_ps / PS_PER_S / tokens)
        if program.deadline_s < inf:
            figures.with_deadline += 1
            figures.in_time += took_ps <= to_ps(program.deadline_s)


def program_report(programs: Programs) -> ProgramReport | None:
    """None where there were none."""
    if not programs.begun:
        return None
    figures = programs.figures
    return ProgramReport(
        programs=figures.completed + figures.failed + programs.running,
        completed=figures.completed,
        failed=figures.failed,
        response_s=distribution(figures.response_s),
        per_token_s=distribution(figures.per_token_s),
        deadline_attainment=figures.in_time / figures.with_deadline if figures.with_deadline else None,
    )
