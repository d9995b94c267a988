"""The one entry point of all decisions: what happens to the requests that wait, on this view, now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from pointsman.core.cluster_draft import Draft
from pointsman.core.decisions import Decision, Dispatch, Reject, RejectReason, Wait
from pointsman.core.instances import InstanceId, Role
from pointsman.core.placement.least_requests import LeastRequests
from pointsman.core.placement.policy import Pick, Policy, cached_tokens
from pointsman.core.queueing.first_come import FirstCome
from pointsman.core.queueing.line import Kind, Line, kind_of
from pointsman.core.queueing.order import Order, in_order
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import Candidates, ClusterView, Group, Stage

WAITS_FOR_ROOM = "every instance runs as many requests as it may"
LAST_RESORT = "requests have failed on every instance"


@dataclass(frozen=True, slots=True)
class ModelRules:
    """How requests of one model are placed."""

    policy: Policy = field(default_factory=LeastRequests)
    local_prefill_tokens: int = 256
    """A prompt of which no more than this is not cached skips the prefill pool where the decode instance may
    prefill: moving its KV would cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything configurable about decisions."""

    models: dict[str, ModelRules] = field(default_factory=dict)
    default: ModelRules = field(default_factory=ModelRules)
    order: Order = field(default_factory=FirstCome)
    """Of requests that wait; higher priorities go before it."""
    max_waiting: int = 1024
    """Requests that may wait in the router; more are rejected."""
    max_wait_s: float = 30.0
    """Longest wait for a place on an instance that is full."""
    max_wait_for_instance_s: float = 5.0
    """Longest wait while nothing that serves the model is available."""
    retry_after_s: float = 1.0

    def of(self, model: str) -> ModelRules:
        return self.models.get(model, self.default)


def decide(
    view: ClusterView, waiting: Sequence[RequestView], now: float, rng: Random, rules: Rules
) -> list[Decision]:
    """One decision per waiting request, in queue order.

    Pure: with several requests each sees those before it as placed, on a draft of the loads. Instances that run
    their `max_running` requests take no more; who finds all of them full waits.
    """
    if len(waiting) == 1 and rules.max_waiting > 0:  # every arrival that nobody waits before
        return [place(view, waiting[0], now, rng, rules)]
    waiting = in_order(rules.order, waiting, view.served, now)
    decisions: list[Decision] = []
    draft = Draft(view) if len(waiting) > 1 else None
    full: set[Kind] = set()
    waits = 0
    for request in waiting:
        kind = kind_of(request)
        # Room only shrinks while we go down the queue: who comes after a waiting request of its kind waits too.
        decision = (
            _full(request, now, rules) if kind in full else place(draft or view, request, now, rng, rules)
        )
        if isinstance(decision, Wait):
            waits += 1
            if decision.why is WAITS_FOR_ROOM:
                full.add(kind)
            if waits > rules.max_waiting:
                decision = _queue_full(request, rules)
        elif isinstance(decision, Dispatch) and draft is not None:
            draft.place(request, decision)
        decisions.append(decision)
    return decisions


def decide_ready(
    view: ClusterView, line: Line, now: float, rng: Random, rules: Rules
) -> list[Dispatch | Reject]:
    """What `decide` answers to those of a line who need not wait any longer, after records that may have made room.

    It looks at who goes, and of each kind at the first who has to stay: where turns go by arrival, the length of the line does
    not matter. So who stays is not told so again, and somebody in the middle whose wait ran out stays, too, until `decide`
    is asked, as it is when an instance changes and on a timer.
    """
    stays: set[Kind] = set()
    first_come = isinstance(rules.order, FirstCome)
    turns: Iterable[RequestView] = (
        line.by_arrival(stays) if first_come else in_order(rules.order, line.requests(), view.served, now)
    )
    draft = Draft(view) if len(line) > 1 else None
    decisions: list[Dispatch | Reject] = []
    for request in turns:
        kind = kind_of(request)
        if kind in stays:
            continue
        decision = place(draft or view, request, now, rng, rules)
        if isinstance(decision, Wait):
            stays.add(kind)
        elif isinstance(decision, Dispatch | Reject):
            decisions.append(decision)
            if isinstance(decision, Dispatch) and draft is not None:
                draft.place(request, decision)
    return decisions


@dataclass(frozen=True, slots=True)
class Queue:
    """What a newcomer finds."""

    waiting: int
    same_model: bool
    """Whether any of them waits for the newcomer's model."""
    lowest_priority: int


def decide_newcomer(
    view: ClusterView, request: RequestView, queue: Queue, now: float, rng: Random, rules: Rules
) -> Decision | None:
    """The decision for a request that comes while others wait, where it does not depend on them. None: decide anew
    about all.

    Since they were told to wait nothing has happened that could make room for them, or they would not wait any more. So
    who comes after them is decided about in a time that does not grow with the queue.
    """
    decision = place(view, request, now, rng, rules)
    if isinstance(decision, Wait):
        if queue.waiting < rules.max_waiting:
            return decision
        return _queue_full(request, rules) if request.priority <= queue.lowest_priority else None
    return None if isinstance(decision, Dispatch) and queue.same_model else decision


def place(view: ClusterView, request: RequestView, now: float, rng: Random, rules: Rules) -> Decision:
    """The decision for one request."""
    candidates = view.candidates(request.model)
    decision = _place(view, request, candidates, now, rng, rules)
    if candidates.last_resort and isinstance(decision, Dispatch):
        decision.why = f"{LAST_RESORT}: {decision.why}"
    return decision


def _place(
    view: ClusterView,
    request: RequestView,
    candidates: Candidates,
    now: float,
    rng: Random,
    rules: Rules,
) -> Decision:
    if request.may_split and candidates.entry.splits and len(candidates.decode):
        return _place_split(view, request, candidates, now, rng, rules)
    whole = candidates.whole
    if not len(whole):
        return _nowhere(view, request, now, rules)
    slots = _with_room(view, request, whole)
    if not len(slots):
        return _full(request, now, rules)
    policy = rules.of(request.model).policy
    pick = policy.pick(view, request, slots, Stage.WHOLE, rng)
    cached = cached_tokens(view, request, pick.slot)
    return _dispatch(request, None, view.instance(pick.slot).id, policy, len(slots), pick, cached)


def choose_decode(
    view: ClusterView, request: RequestView, prefill: InstanceId, now: float, rng: Random, rules: Rules
) -> Decision:
    """The decode instance of a request whose prefill ran, or runs, on `prefill`."""
    decode = view.candidates(request.model).decode
    if not len(decode):
        return _nowhere(view, request, now, rules)
    slots = _with_room(view, request, decode)
    source = view.slot_of(prefill)
    if source is not None and not decode.one_transfer_group:
        slots = _partners(view, slots, source)
    if not len(slots):
        return _full(request, now, rules)
    policy = rules.of(request.model).policy
    pick = policy.pick(view, request, slots, Stage.DECODE, rng)
    return _dispatch(request, prefill, view.instance(pick.slot).id, policy, len(slots), pick, 0)


def _place_split(
    view: ClusterView,
    request: RequestView,
    candidates: Candidates,
    now: float,
    rng: Random,
    rules: Rules,
) -> Decision:
    """A (prefill, decode) pair, or one instance that does both.

    Decode first: whether the prefill pool is worth the transfer depends on what the decode instance has cached.
    Mixed instances of the same model compete with the prefill pool for the whole request.
    """
    rule = rules.of(request.model)
    policy = rule.policy
    entry, decode = candidates.entry, candidates.decode
    decode_slots = _with_room(view, request, decode)
    if not len(decode_slots):
        return _full(request, now, rules)
    second = policy.pick(view, request, decode_slots, Stage.DECODE, rng)
    target = view.instance(second.slot)
    if target.capabilities.local_prefill:
        cached = cached_tokens(view, request, second.slot)
        uncached = request.prompt_tokens - cached
        if uncached <= rule.local_prefill_tokens:
            second.why = f"{uncached} tokens to prefill, not worth a transfer: {second.why}"
            return _dispatch(request, None, target.id, policy, len(decode_slots), second, cached)
    entry_slots = _with_room(view, request, entry)
    if not (entry.one_transfer_group and decode.one_transfer_group):
        entry_slots = _partners(view, entry_slots, second.slot)
    if not len(entry_slots):
        return _full(request, now, rules)
    first = policy.pick(view, request, entry_slots, Stage.ENTRY, rng)
    chosen, cached = view.instance(first.slot), cached_tokens(view, request, first.slot)
    if chosen.role is Role.MIXED:
        return _dispatch(request, None, chosen.id, policy, len(entry_slots), first, cached)
    both = Pick(second.slot, first.cost + second.cost, f"{first.why}, then {second.why}")
    together = len(entry_slots) + len(decode_slots)
    return _dispatch(request, chosen.id, target.id, policy, together, both, cached)


def _with_room(view: ClusterView, request: RequestView, group: Group) -> Slots:
    """Members that run fewer requests than they may, but for those an earlier attempt failed on.

    Where every member has failed already they all count again: one may have come back, attempts are bounded,
    and a breaker takes the hopeless ones out of the group.
    """
    slots = group.slots
    if group.caps is not None:
        running = view.loads.running
        pairs = zip(slots.listed, group.caps, strict=True)
        slots = Slots([slot for slot, cap in pairs if running[slot] < cap])
    if request.excluded:
        untried = [slot for slot in slots.listed if view.instance(slot).id not in request.excluded]
        if untried:
            slots = Slots(untried)
    return slots


def _partners(view: ClusterView, slots: Slots, other: int) -> Slots:
    """Those that can exchange KV with `other`, and those that need not: mixed instances."""
    group = view.instance(other).capabilities.transfer_group
    return Slots(
        [
            slot
            for slot in slots.listed
            if view.instance(slot).role is Role.MIXED
            or view.instance(slot).capabilities.transfer_group == group
        ]
    )


def _dispatch(
    request: RequestView,
    prefill: InstanceId | None,
    decode: InstanceId,
    policy: Policy,
    candidates: int,
    pick: Pick,
    cached: int,
) -> Dispatch:
    return Dispatch(request.request_id, prefill, decode, policy.name, candidates, pick.cost, pick.why, cached)


def _full(request: RequestView, now: float, rules: Rules) -> Decision:
    until = min(request.arrived_s + rules.max_wait_s, request.deadline_s)
    if now < until:
        return Wait(request.request_id, until, WAITS_FOR_ROOM)
    return Reject(
        request.request_id,
        RejectReason.DEADLINE,
        f"no instance had room within {until - request.arrived_s:g} s",
        rules.retry_after_s,
    )


def _queue_full(request: RequestView, rules: Rules) -> Reject:
    why = f"{rules.max_waiting} requests wait already"
    return Reject(request.request_id, RejectReason.QUEUE_FULL, why, rules.retry_after_s)


def _nowhere(view: ClusterView, request: RequestView, now: float, rules: Rules) -> Decision:
    # A model that is configured has no instance at all while its only one is being replaced.
    if request.model not in rules.models and not view.candidates(request.model).served:
        why = f"no instance serves the model {request.model!r}"
        return Reject(request.request_id, RejectReason.MODEL_NOT_FOUND, why)
    until = min(request.arrived_s + rules.max_wait_for_instance_s, request.deadline_s)
    if now < until:
        return Wait(request.request_id, until, "no instance that could take it is available")
    why = f"no instance of {request.model!r} that could take it is available"
    return Reject(request.request_id, RejectReason.NO_INSTANCE, why, rules.retry_after_s)
