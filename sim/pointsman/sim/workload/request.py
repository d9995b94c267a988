"""One request of a workload."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pointsman.sim.workload.program import Program

HASH_BLOCK_TOKENS = 512
"""Tokens one hash id covers; the last block of a prompt may be partial."""


@dataclass(init=False, slots=True)
class TraceRequest:
    """What arrives when, how long its prompt is and how long its answer will be."""

    arrival_s: float
    """Since the first request of the workload."""
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()
    """Prefix blocks: equal ids at equal places mean equal prompts up to and including that block."""
    session_id: str = ""
    program_id: str = ""
    tenant: str = ""
    priority: int = 0
    prompt: str | None = None
    expected_output_tokens: int = 0
    """What somebody predicted; 0: nothing."""
    program: Program | None = None
    """Of which this is the first call; the others arrive as it goes on."""

    def __init__(
        self,
        arrival_s: float,
        prompt_tokens: int,
        output_tokens: int,
        hash_ids: tuple[int, ...] = (),
        session_id: str = "",
        program_id: str = "",
        tenant: str = "",
        priority: int = 0,
        prompt: str | None = None,
        expected_output_tokens: int = 0,
        program: Program | None = None,
    ) -> None:
        self.arrival_s = arrival_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.hash_ids = hash_ids
        self.session_id = session_id
        self.program_id = program_id
        self.tenant = tenant
        self.priority = priority
        self.prompt = prompt
        self.expected_output_tokens = expected_output_tokens
        self.program = program

    @property
    def calls(self) -> int:
        """Requests that it stands for."""
        return 1 if self.program is None else len(self.program.calls)

    def at(self, arrival_s: float) -> "TraceRequest":
        """The same at another time."""
        return TraceRequest(
            arrival_s,
            self.prompt_tokens,
            self.output_tokens,
            self.hash_ids,
            self.session_id,
            self.program_id,
            self.tenant,
            self.priority,
            self.prompt,
            self.expected_output_tokens,
            self.program,
        )


Workload = Iterable[TraceRequest]
"""Requests in order of arrival. Iterating again starts anew, so that nothing needs to be held in memory."""


def begun(program: Program, arrival_s: float, name: str, tenant: str) -> TraceRequest:
    """The first call of a program; the simulation finds out when the others arrive. `name` is the program's own."""
    first = program.calls[0]
    return TraceRequest(
        arrival_s,
        first.prompt_tokens,
        first.output_tokens,
        first.hash_ids,
        session_id=name,
        program_id=name,
        tenant=tenant,
        program=program,
    )


@dataclass(frozen=True, slots=True)
class Extent:
    """How many requests a workload has and over which time they arrive."""

    requests: int
    """Calls of programs included."""
    last_arrival_s: float
    arrivals: int = 0
    """Programs and requests of none; the others come when programs go on. 0: as many as requests."""

    @property
    def period_s(self) -> float:
        """The time after which a repetition would start: the span and one mean gap."""
        arrivals = self.arrivals or self.requests
        if arrivals < 2:
            return self.last_arrival_s
        return self.last_arrival_s * arrivals / (arrivals - 1)


def count_requests(workload: Workload) -> int:
    """Requests of a workload: what its `request_count` says, where it has one, else by reading it once."""
    counter: Callable[[], int] | None = getattr(workload, "request_count", None)
    return sum(request.calls for request in workload) if counter is None else counter()


def count_programs(workload: Workload) -> int:
    """Reads the workload once."""
    return sum(request.program is not None for request in workload)


def measure_extent(workload: Workload) -> Extent:
    """Reads the workload once."""
    requests, arrivals, last_s = 0, 0, 0.0
    for request in workload:
        requests += request.calls
        arrivals += 1
        last_s = request.arrival_s
    return Extent(requests, last_s, arrivals)
