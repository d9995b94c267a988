"""An InstancePool: what is to be done so that its instances are as many and as its spec says."""

from dataclasses import dataclass

from pydantic import ValidationError

from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.blueprint import Blueprint
from pointsman.controller.objects.keeping import (
    FAILED_AT,
    FAILED_BECAUSE,
    PROVEN_AT,
    controller_revision,
    disruption_budget,
    network_policy,
    profile_map,
)
from pointsman.controller.objects.workload import instance_name, workload
from pointsman.controller.reconcile.actions import Action, Apply, Delete, Object, Ref, Requeue
from pointsman.controller.reconcile.change import Change, change_of
from pointsman.controller.reconcile.contained import up_to_date
from pointsman.controller.reconcile.instances import Instance, Seen, instances_of
from pointsman.controller.reconcile.observed import ObservedPool
from pointsman.controller.reconcile.pool_status import PoolView, invalid_spec, pool_events, status_of
from pointsman.controller.reconcile.revisions import History, history_of
from pointsman.controller.reconcile.steps import Steps, steps
from pointsman.controller.reconcile.times import precise, text
from pointsman.controller.reconcile.wishes import wish_of

BURST = 64
"""Instances that one pass makes or removes at most: the next one goes on, and other objects have their turn in between."""


def reconcile_pool(observed: ObservedPool, now: float) -> list[Action]:
    """Everything to be done now. Empty when all is as it should be."""
    pool = observed.pool
    if pool["metadata"].get("deletionTimestamp"):
        return []  # Its children go with it, each with its pods' grace time: that is the cluster's own work.
    try:
        spec = InstancePoolSpec.from_wire(pool.get("spec", {}))
    except ValidationError as error:
        return invalid_spec(pool, error, now)
    name = pool["metadata"]["name"]
    seen = instances_of(observed)
    history = history_of(observed.revisions, pool["metadata"]["uid"])
    wish = wish_of(name, spec, observed.profiles, observed.facts)
    change = change_of(
        wish.blueprint,
        history,
        seen,
        replicas=spec.replicas,
        deadline_s=spec.rollout.progress_deadline_seconds,
        paused=spec.rollout.paused,
        now=now,
    )
    planned = _planned(spec, change)
    children = _Children(observed, spec, history, seen, change, wish.blueprint, now)
    made, names = children.new_instances(planned.create)
    view = PoolView(
        pool, spec, seen, history, change, wish, observed.refused, made=names, removed=planned.remove
    )
    actions: list[Action] = [
        *children.kept(),
        *made,
        *children.repairs(planned.remove),
        *(_removal(instance) for instance in planned.remove),
        *children.unused(),
        *pool_events(view),
    ]
    # What is made or removed now is another picture in a moment, and that is what the status tells; unless it is refused.
    last = max(len(made), len(planned.remove)) < BURST
    if observed.refused or not last or not (made or planned.remove):
        actions += status_of(view, now)
    if change.deadline_s is not None:
        actions.append(Requeue(max(0.0, change.deadline_s - now)))
    return actions


def _planned(spec: InstancePoolSpec, change: Change) -> Steps:
    found = steps(
        change.current,
        change.old,
        spec.replicas,
        surge=spec.rollout.max_surge,
        unavailable=spec.rollout.max_unavailable,
    )
    # Where nothing can be made what there is goes on, and only what is too much may go.
    create = min(found.create, BURST) if change.blueprint is not None else 0
    return Steps(create, found.remove[:BURST])


def _removal(instance: Instance) -> Delete:
    return Delete(Ref.of(instance.workload), instance.uid, "no longer wanted")


@dataclass(frozen=True, slots=True)
class _Children:
    """Objects of the pool: those that should be there, and those that no longer should."""

    observed: ObservedPool
    spec: InstancePoolSpec
    history: History
    seen: Seen
    change: Change
    wanted: Blueprint | None
    now: float

    def kept(self) -> list[Action]:
        """Revisions, disruption budget, network policy and profiles, before anything that needs them."""
        live_maps = {str(found["metadata"]["name"]): found for found in self.observed.config_maps}
        live_budgets = {str(found["metadata"]["name"]): found for found in self.observed.disruption_budgets}
        live_policies = {str(found["metadata"]["name"]): found for found in self.observed.network_policies}
        actions = []
        for made_from in (self._made_from(revision) for revision in sorted(self._used())):
            profiles = (
                profile_map(self.observed.pool, self.spec, made_from) if made_from is not None else None
            )
            if profiles is not None:
                actions += _applied(profiles, live_maps.get(profiles["metadata"]["name"]))
        actions += self._revisions()
        budget = disruption_budget(self.observed.pool, self.spec)
        actions += _applied(budget, live_budgets.get(budget["metadata"]["name"]))
        if peers := self.observed.facts.engine_peers:
            policy = network_policy(self.observed.pool, self.spec, peers)
            actions += _applied(policy, live_policies.get(policy["metadata"]["name"]))
        return actions

    def _revisions(self) -> list[Action]:
        actions: list[Action] = []
        gone = {found.hash for found in self.history.unused(self._used())}
        for revision, found in sorted(self.history.revisions.items()):
            if revision not in gone:
                marks = self._marks(revision)
                wanted = controller_revision(
                    self.observed.pool, self.spec, found.object["data"], revision, found.number, marks
                )
                actions += _applied(wanted, found.object)
        if self.wanted is not None and self.change.desired not in self.history.revisions:
            actions += _applied(
                controller_revision(
                    self.observed.pool,
                    self.spec,
                    self.wanted.data(),
                    self.change.desired,
                    self.history.next_number,
                    self._marks(self.change.desired),
                ),
                None,
            )
        return actions

    def _marks(self, revision: str) -> dict[str, str]:
        """What is known of a revision. That one was given up matters only while the spec asks for it."""
        found = self.history.revisions.get(revision)
        marks = {}
        if revision == self.change.desired and self.change.proven_now:
            marks[PROVEN_AT] = precise(self.now)
        elif found is not None and found.proven_at:
            marks[PROVEN_AT] = found.proven_at
        elif revision == self.change.stable:
            marks[PROVEN_AT] = precise(self.now)  # what a change goes back to is from now on known to work
        if revision == self.change.failed:
            if self.change.failed_now or found is None:
                marks[FAILED_AT] = text(self.now)
                marks[FAILED_BECAUSE] = self.change.failed_now
            else:
                marks[FAILED_AT] = found.failed_at
                marks[FAILED_BECAUSE] = found.failed_because
        return marks

    def _used(self) -> frozenset[str]:
        return self.seen.used_revisions | {self.change.desired, self.change.target, self.change.stable} - {""}

    def _made_from(self, revision: str) -> Blueprint | None:
        if self.wanted is not None and revision == self.change.desired:
            return self.wanted
        found = self.history.revisions.get(revision)
        return found.blueprint() if found is not None else None

    def new_instances(self, count: int) -> tuple[list[Action], list[str]]:
        """New workloads of the target revision, and their names."""
        made_from = self.change.blueprint
        if made_from is None:
            return [], []
        meta = self.observed.pool["metadata"]
        taken = self.seen.taken
        actions: list[Action] = []
        names = []
        for _ in range(count):
            name = instance_name(meta["name"], meta["uid"], self.change.target, taken)
            taken |= {name}
            names.append(name)
            wanted = workload(self.observed.pool, self.spec, name, self.change.target, made_from)
            actions.append(Apply(wanted, "created"))
        return actions, names

    def repairs(self, leaving: tuple[Instance, ...]) -> list[Action]:
        """Instances that stay are what they were made as; those that nobody owns become the pool's again."""
        actions: list[Action] = []
        for instance in self.seen.live:
            made_from = self._made_from(instance.revision)
            if instance in leaving or made_from is None:
                continue
            wanted = workload(self.observed.pool, self.spec, instance.name, instance.revision, made_from)
            if instance.orphan:
                actions.append(Apply(wanted, "adopted"))
            else:
                actions += _applied(wanted, instance.workload)
        return actions

    def unused(self) -> list[Action]:
        """Revisions and profiles that nothing uses any more."""
        used = self._used()
        profiles = {
            wanted["metadata"]["name"]
            for made_from in map(self._made_from, [*used, *self.history.revisions])
            if made_from is not None
            and (wanted := profile_map(self.observed.pool, self.spec, made_from)) is not None
        }
        idle: list[Object] = [revision.object for revision in self.history.unused(used)]
        idle += [found for found in self.observed.config_maps if found["metadata"]["name"] not in profiles]
        own = self.observed.pool["metadata"]["uid"]
        return [
            Delete(Ref.of(found), found["metadata"]["uid"], "no longer used", "Background")
            for found in idle
            if not found["metadata"].get("deletionTimestamp")
            and own in [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]
        ]


def _applied(wanted: Object, live: Object | None) -> list[Action]:
    if live is None:
        return [Apply(wanted, "created")]
    return [] if up_to_date(live, wanted) else [Apply(wanted, "changed or drifted")]
