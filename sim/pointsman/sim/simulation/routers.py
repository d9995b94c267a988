"""The routers of a simulation: each replica folds its own records at once and others' after a delay, and decides.

The rules of waiting are those of the live router's `Brain`: who must wait is asked about again after every record
that could have made room, and when its wait runs out.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from pointsman.core.cluster import Cluster
from pointsman.core.decide import Queue, Rules, choose_decode, decide, decide_newcomer, decide_ready
from pointsman.core.decisions import Decision, Dispatch, Reject, RejectReason, Wait
from pointsman.core.events import DecodeChosen, EngineSample, Event, Placed, Progress
from pointsman.core.queueing.line import Line
from pointsman.core.requests import RequestView
from pointsman.core.units import PS_PER_S

NEVER_PS: Final = 1 << 62

Answer = Dispatch | Reject
OnAnswer = Callable[[RequestView, Answer], None]
WakeAt = Callable[[int, int], None]


class Replica:
    """One router."""

    __slots__ = ("cluster", "deciding", "inbox", "number", "rng", "soonest_ps", "waiting", "woken_ps")

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.cluster = Cluster()
        self.rng = Random(f"{seed}/{number}")
        self.inbox: deque[tuple[int, Event]] = deque()
        """Records of others, by when they arrive."""
        self.waiting = Line()
        self.deciding = False
        self.woken_ps = -1
        """The latest time this router asked to be woken at."""
        self.soonest_ps = NEVER_PS
        """When the first wait runs out."""


class Routers:
    """All replicas. `on_answer` is told of each decision that is not to wait; `wake_at` asks to be woken."""

    __slots__ = ("_delay_ps", "_explained", "_on_answer", "_replicas", "_rules", "_wake_at", "explanations")

    def __init__(
        self,
        replicas: int,
        delay_ps: int,
        rules: Rules,
        seed: int,
        on_answer: OnAnswer,
        wake_at: WakeAt,
        explained: frozenset[str] = frozenset(),
    ) -> None:
        """Decisions about the requests `explained` are kept in words."""
        self._explained = explained
        self.explanations: list[str] = []
        self._replicas = [Replica(number, seed) for number in range(replicas)]
        self._delay_ps = delay_ps
        self._rules = rules
        self._on_answer = on_answer
        self._wake_at = wake_at

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def waiting(self) -> int:
        return sum(len(replica.waiting) for replica in self._replicas)

    def observe(self, event: Event, now_ps: int) -> None:
        """What every router sees for itself, at once: instances that come and go."""
        for replica in self._replicas:
            self._read(replica, now_ps)
            replica.cluster.apply(event)
            replica.soonest_ps = 0  # what each waits for may have changed
            if replica.waiting:
                self._reconsider(replica, now_ps)

    def record(self, number: int, event: Event, now_ps: int) -> None:
        """A router records what it did or saw; others hear of it later."""
        replica = self._replicas[number]
        replica.cluster.apply(event)
        if len(self._replicas) > 1:
            self._tell_others(number, event, now_ps)
        if replica.waiting and not isinstance(event, (Placed, Progress, EngineSample)):
            self._reconsider(replica, now_ps)

    def submit(self, number: int, request: RequestView, now_ps: int) -> None:
        """Decide about a new request, now or later."""
        replica = self._replicas[number]
        if replica.inbox:
            self._read(replica, now_ps)
            if replica.waiting:
                self._reconsider(replica, now_ps)
        now_s, line = now_ps / PS_PER_S, replica.waiting
        decision: Decision | None
        if line:
            queue = Queue(len(line), line.waits_for(request.model), line.lowest_priority)
            decision = decide_newcomer(replica.cluster, request, queue, now_s, replica.rng, self._rules)
        else:
            (decision,) = decide(replica.cluster, (request,), now_s, replica.rng, self._rules)
        if decision is None:
            line.add(request)
            self._reconsider(replica, now_ps)
        elif isinstance(decision, Wait):
            line.add(request)
            self._wait(replica, decision)
        else:
            self._carry_out(replica, request, decision, now_ps)

    def choose_decode(self, number: int, request_id: str, now_ps: int) -> Answer:
        """The decode instance of a request whose prefill has ended."""
        replica = self._replicas[number]
        self._read(replica, now_ps)
        placement = replica.cluster.placement(request_id)
        if placement is None or placement.prefill < 0:
            return Reject(request_id, RejectReason.NO_INSTANCE, "its prefill instance is gone")
        prefill = replica.cluster.instance(placement.prefill).id
        now_s = now_ps / PS_PER_S
        decision = choose_decode(replica.cluster, placement.request, prefill, now_s, replica.rng, self._rules)
        if request_id in self._explained:
            self._explain(replica.cluster, placement.request, decision, now_ps)
        if isinstance(decision, Dispatch) and decision.decode is not None:
            self.record(number, DecodeChosen(request_id, decision.decode, now_s), now_ps)
            return decision
        return Reject(request_id, RejectReason.NO_INSTANCE, "no decode instance can take it now")

    def wake(self, number: int, now_ps: int) -> None:
        """A wait ran out, or another router's record has come."""
        replica = self._replicas[number]
        self._read(replica, now_ps)
        if replica.waiting:
            self._reconsider(replica, now_ps)

    def _tell_others(self, number: int, event: Event, now_ps: int) -> None:
        due_ps = now_ps + self._delay_ps
        for other in self._replicas:
            if other.number != number:
                other.inbox.append((due_ps, event))
                if other.waiting:
                    self._wake_at(due_ps, other.number)

    def _read(self, replica: Replica, now_ps: int) -> None:
        """Fold what has come from others."""
        inbox = replica.inbox
        while inbox and inbox[0][0] <= now_ps:
            replica.cluster.apply(inbox.popleft()[1])

    def _reconsider(self, replica: Replica, now_ps: int) -> None:
        if replica.deciding:  # carrying a decision out recorded an event; the loop below sees its effect
            return
        replica.deciding = True
        settled = True
        while settled and replica.waiting:
            settled = self._settle(replica, now_ps)
        replica.deciding = False

    def _settle(self, replica: Replica, now_ps: int) -> bool:
        settled = False
        cluster, line, now_s = replica.cluster, replica.waiting, now_ps / PS_PER_S
        decisions: Sequence[Decision]
        if now_ps >= replica.soonest_ps:
            replica.soonest_ps = NEVER_PS
            decisions = decide(cluster, line.requests(), now_s, replica.rng, self._rules)
        else:
            decisions = decide_ready(cluster, line, now_s, replica.rng, self._rules)
        for decision in decisions:
            if isinstance(decision, Wait):
                self._wait(replica, decision)
                continue
            request = line.pop(decision.request_id)
            if request is not None:
                settled = True
                self._carry_out(replica, request, decision, now_ps)
        return settled

    def _wait(self, replica: Replica, decision: Wait) -> None:
        until_ps = -int(-decision.until_s * PS_PER_S // 1)
        replica.soonest_ps = min(replica.soonest_ps, until_ps)
        if until_ps > replica.woken_ps:
            replica.woken_ps = until_ps
            self._wake_at(until_ps, replica.number)

    def _carry_out(self, replica: Replica, request: RequestView, decision: Decision, now_ps: int) -> None:
        if request.request_id in self._explained:
            self._explain(replica.cluster, request, decision, now_ps)
        if isinstance(decision, Dispatch):
            placed = Placed(
                request, decision.prefill, decision.decode, now_ps / PS_PER_S, decision.cached_tokens
            )
            self.record(replica.number, placed, now_ps)
            self._on_answer(request, decision)
        elif isinstance(decision, Reject):
            self._on_answer(request, decision)

    def _explain(self, cluster: Cluster, request: RequestView, decision: Decision, now_ps: int) -> None:
        """A decision in words, with the loads that its router saw."""
        if isinstance(decision, Dispatch):
            words = decision.explain()
        else:
            words = f"{type(decision).__name__.lower()}: {decision.why}"
        lines = [f"{now_ps / PS_PER_S:.6f} s  request {request.request_id}: {words}"]
        loads, hashes = cluster.loads, request.block_hashes
        for slot, instance, available in cluster.instances():
            lines.append(
                f"    {instance.id.address}  {instance.role}  running {loads.running[slot]}, to prefill "
                f"{loads.prefill_tokens[slot]} tokens, context {loads.context_tokens[slot]} tokens, prefix blocks "
                f"held {cluster.prefixes.held(slot, hashes)} of {len(hashes)}"
                + ("" if available else ", not available")
            )
        self.explanations.append("\n".join(lines))
