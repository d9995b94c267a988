"""The router's shell around `core.decide`: it keeps the view, the queue and the clock, and decides nothing."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from pointsman.core.cluster import Cluster
from pointsman.core.decide import Rules, choose_decode, decide, decide_newcomer, decide_ready
from pointsman.core.decisions import Decision, Dispatch, Reject, RejectReason, Wait
from pointsman.core.events import (
    DecodeChosen,
    EngineSample,
    Event,
    Finished,
    Placed,
    PrefillEnded,
    Progress,
)
from pointsman.core.requests import RequestView
from pointsman.router.waiting import OnDecision, WaitingRoom

Answer = Dispatch | Reject


class Log(Protocol):
    """Where the router's own records go for others to fold. Appending never blocks and never fails."""

    def append(self, event: Event) -> None: ...


class Brain:
    """Every method is synchronous: the hot path awaits nothing but the client and the engine."""

    __slots__ = (
        "_again",
        "_all_of_them",
        "_clock",
        "_deciding",
        "_log",
        "_rng",
        "_waiting",
        "cluster",
        "rules",
    )

    def __init__(self, rules: Rules, clock: Callable[[], float], rng: Random, log: Log | None = None) -> None:
        """`clock` gives monotonic seconds; `rules` may be replaced at any time."""
        self.rules = rules
        self.cluster = Cluster()
        self._clock = clock
        self._rng = rng
        self._log = log
        self._waiting = WaitingRoom()
        self._deciding = False
        self._again = False
        self._all_of_them = False

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def record(self, event: Event) -> None:
        """Fold an event, and decide about waiting requests if it could have made room."""
        self.cluster.apply(event)
        if self._log is not None:
            self._log.append(event)
        if self._waiting and not isinstance(event, (Placed, Progress, EngineSample)):
            self._reconsider(all_of_them=not isinstance(event, (Finished, PrefillEnded, DecodeChosen)))

    def submit(self, request: RequestView, on_decision: OnDecision) -> None:
        """Decide about a new request.

        `on_decision` is called before this returns, or later if the request waits; once in any case, unless it
        is withdrawn. A dispatched request is recorded as placed before the call.
        """
        decision: Decision | None
        if self._waiting:
            queue = self._waiting.before(request.model)
            decision = decide_newcomer(self.cluster, request, queue, self._clock(), self._rng, self.rules)
        else:
            decision = decide(self.cluster, (request,), self._clock(), self._rng, self.rules)[0]
        if decision is None:
            self._waiting.add(request, on_decision)
            self.reconsider()
        elif isinstance(decision, Wait):
            self._waiting.add(request, on_decision)
        else:
            self._carry_out(request, decision, on_decision)

    def reconsider(self) -> None:
        """Decide about all waiting requests: when instances change, and on a timer for those whose wait ran out."""
        self._reconsider(all_of_them=True)

    def _reconsider(self, *, all_of_them: bool) -> None:
        self._again = True
        self._all_of_them |= all_of_them
        if self._deciding:  # a callback recorded an event; the loop below sees its effect
            return
        self._deciding = True
        try:
            while self._again and self._waiting:
                self._again = False
                self._settle()
        finally:
            self._deciding = False

    def _settle(self) -> None:
        line, now = self._waiting.line, self._clock()
        decisions: Sequence[Decision]
        if self._all_of_them:
            self._all_of_them = False
            decisions = decide(self.cluster, line.requests(), now, self._rng, self.rules)
        else:
            decisions = decide_ready(self.cluster, line, now, self._rng, self.rules)
        for decision in decisions:
            if isinstance(decision, Wait):
                continue
            entry = self._waiting.pop(decision.request_id)
            if entry is not None:
                request, on_decision = entry
                self._carry_out(request, decision, on_decision)

    def choose_decode(self, request_id: str) -> Answer:
        """The decode instance for a placed request whose prefill leg has an instance; recorded when found."""
        placement = self.cluster.placement(request_id)
        if placement is None or placement.prefill < 0:
            return Reject(request_id, RejectReason.NO_INSTANCE, "its prefill instance is gone")
        prefill = self.cluster.instance(placement.prefill).id
        decision = choose_decode(
            self.cluster, placement.request, prefill, self._clock(), self._rng, self.rules
        )
        if isinstance(decision, Dispatch) and decision.decode is not None:
            self.record(DecodeChosen(request_id, decision.decode, self._clock()))
            return decision
        return Reject(
            request_id,
            RejectReason.NO_INSTANCE,
            "no decode instance can take it now",
            self.rules.retry_after_s,
        )

    def prefill_ended(self, request_id: str) -> None:
        self.record(PrefillEnded(request_id, self._clock()))

    def finished(self, request_id: str, *, completed: bool, output_tokens: int = 0) -> None:
        self.record(Finished(request_id, self._clock(), completed=completed, output_tokens=output_tokens))

    def withdraw(self, request_id: str) -> None:
        """The client left, whether its request waits or runs."""
        if self._waiting.pop(request_id) is None:
            self.finished(request_id, completed=False)

    def _carry_out(self, request: RequestView, decision: Decision, on_decision: OnDecision) -> None:
        if isinstance(decision, Dispatch):
            self.record(
                Placed(request, decision.prefill, decision.decode, self._clock(), decision.cached_tokens)
            )
            on_decision(decision)
        elif isinstance(decision, Reject):
            on_decision(decision)
