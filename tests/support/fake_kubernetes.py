"""As much of Kubernetes as deciding needs, in memory with a clock of its own: server-side apply with field ownership,
deletion in the foreground, Deployments that keep one pod, and pods that become ready, drain and end.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pointsman.api.resources import names
from pointsman.controller.objects.canonical import canonical
from pointsman.controller.objects.merge import KEYS
from pointsman.controller.reconcile import reconcile
from pointsman.controller.reconcile.actions import Action, Apply, Delete, Event, PatchStatus, Requeue
from pointsman.controller.reconcile.observed import ClusterFacts, ObservedPool, ObservedService, RouterReport
from pointsman.controller.reconcile.times import text

Object = dict[str, Any]
START_S = 5.0
DRAIN_S = 4.0
CUSTOM = "pointsman.io/v1alpha1"


class ConflictError(Exception):
    """409: the object is not the one that was seen, or has changed."""


class FakeKubernetes:
    """A namespace called `default`."""

    def __init__(self, *, leader_worker_sets: bool = False) -> None:
        self.now = 1_800_000_000.0
        self.objects: dict[tuple[str, str], Object] = {}
        self.writes = 0
        self.events: list[Event] = []
        self.starts: Callable[[Object], bool] = lambda pod: "--broken" not in canonical(pod["spec"])
        """Whether a pod ever becomes ready."""
        self.routers: tuple[RouterReport, ...] | None = None
        self.profiles: tuple[Object, ...] = ()
        self.facts = ClusterFacts(leader_worker_sets=leader_worker_sets, own_image="pointsman:test")
        self._uids = 0
        self._versions = 0
        self._applied: dict[str, Any] = {}

    # What users and the shell do.

    def create(self, kind: str, name: str, spec: Mapping[str, Any], manager: str = "kubectl") -> Object:
        found: Object = {
            "apiVersion": CUSTOM,
            "kind": kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": copy.deepcopy(dict(spec)),
        }
        return self._store(found, manager)

    def edit(
        self, kind: str, name: str, change: Callable[[Object], None], manager: str = "kubectl-edit"
    ) -> None:
        """An update by somebody: who changes a field owns it."""
        found = self.objects[kind, name]
        before = copy.deepcopy(found)
        change(found)
        if canonical(before) == canonical(found):
            return
        if before["spec"] != found["spec"]:
            found["metadata"]["generation"] += 1
        if before["spec"].get("replicas") != found["spec"].get("replicas"):
            _own_replicas(found, manager, sole=True)
        self._touch(found)

    def scale(self, pool: str, replicas: int, manager: str = "kubectl") -> None:
        def change(found: Object) -> None:
            found["spec"]["replicas"] = replicas

        self.edit("InstancePool", pool, change, manager)

    def delete(self, kind: str, name: str) -> None:
        found = self.objects[kind, name]
        found["metadata"].setdefault("deletionTimestamp", text(self.now))
        self._touch(found)

    def carry_out(self, action: Action) -> None:
        """Raises ConflictError."""
        match action:
            case Apply(wanted):
                self._apply(wanted)
            case Delete(ref, uid):
                found = self.objects.get((ref.kind, ref.name))
                if found is not None and found["metadata"]["uid"] == uid:
                    if "deletionTimestamp" not in found["metadata"]:
                        self.writes += 1
                    self.delete(ref.kind, ref.name)
            case PatchStatus(ref, uid, status):
                found = self.objects.get((ref.kind, ref.name))
                if found is not None and found["metadata"]["uid"] == uid:
                    found["status"] = {**found.get("status", {}), **copy.deepcopy(dict(status))}
                    self.writes += 1
                    self._touch(found)
            case Event():
                self.events.append(action)
            case Requeue():
                pass

    # What the shell gathers.

    def observed(self) -> list[ObservedService | ObservedPool]:
        """A view of everything, which stays as it is now."""
        return [
            self.view(kind, name)
            for wanted in ("ModelService", "InstancePool")
            for kind, name in self.objects
            if kind == wanted
        ]

    def view(self, kind: str, name: str) -> ObservedService | ObservedPool:
        """All that belongs to one object, as it is now."""
        found = self.objects[kind, name]
        label = names.MODEL_SERVICE if kind == "ModelService" else names.INSTANCE_POOL
        children = [child for child in self.objects.values() if _label(child, label) == name]

        def of(*kinds: str) -> tuple[Object, ...]:
            return tuple(copy.deepcopy(child) for child in children if child["kind"] in kinds)

        if kind == "ModelService":
            pools = of("InstancePool")
            return ObservedService(copy.deepcopy(found), pools, self.profiles, self.routers, facts=self.facts)
        return ObservedPool(
            copy.deepcopy(found),
            workloads=of("Deployment", "LeaderWorkerSet"),
            pods=of("Pod"),
            revisions=of("ControllerRevision"),
            config_maps=of("ConfigMap"),
            disruption_budgets=of("PodDisruptionBudget"),
            network_policies=of("NetworkPolicy"),
            profiles=self.profiles,
            facts=self.facts,
        )

    def reconcile(self) -> list[Action]:
        """One pass over everything, each on a fresh view; what was done."""
        done: list[Action] = []
        for wanted in ("ModelService", "InstancePool"):
            for kind, name in list(self.objects):
                if kind == wanted:
                    for action in reconcile(self.view(kind, name), self.now):
                        self.carry_out(action)
                        done.append(action)
        return done

    def settle(self, seconds: float = 120.0, step_s: float = 1.0) -> None:
        """Pass by pass, second by second."""
        end = self.now + seconds
        while self.now < end:
            self.reconcile()
            self.tick(step_s)
        self.reconcile()

    # What the cluster does by itself.

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        living = {
            found["metadata"]["uid"]
            for found in self.objects.values()
            if "deletionTimestamp" not in found["metadata"]
        }
        for (kind, name), found in list(self.objects.items()):
            if kind in {"Deployment", "LeaderWorkerSet"}:
                self._run(found)
            if kind == "Pod":
                self._age(found)
            ending = "deletionTimestamp" in found["metadata"]
            owners = found["metadata"].get("ownerReferences", [])
            orphaned = bool(owners) and not any(owner["uid"] in living for owner in owners)
            if orphaned and not ending:
                self.delete(kind, name)
            if ending and kind != "Pod" and not self._children(found):
                self.objects.pop((kind, name), None)

    def pods(self, pool: str | None = None) -> list[Object]:
        return [
            found
            for (kind, _), found in self.objects.items()
            if kind == "Pod" and (pool is None or _label(found, names.INSTANCE_POOL) == pool)
        ]

    def serving(self, pool: str) -> list[Object]:
        """Pods that are ready and not ending."""
        return [
            pod for pod in self.pods(pool) if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]

    def of_kind(self, kind: str) -> list[Object]:
        return [found for (of, _), found in self.objects.items() if of == kind]

    def condition(self, kind: str, name: str, which: str) -> Object:
        conditions = self.objects[kind, name].get("status", {}).get("conditions", [])
        return next(dict(found) for found in conditions if found["type"] == which)

    def _children(self, found: Object) -> list[Object]:
        uid = found["metadata"]["uid"]
        return [
            other
            for other in self.objects.values()
            if uid in [owner["uid"] for owner in other["metadata"].get("ownerReferences", [])]
        ]

    def _run(self, workload: Object) -> None:
        if "deletionTimestamp" in workload["metadata"]:
            for pod in self._children(workload):
                self.delete("Pod", pod["metadata"]["name"])
            return
        spec = workload["spec"]
        template = (
            spec["template"]
            if workload["kind"] == "Deployment"
            else spec["leaderWorkerTemplate"]["leaderTemplate"]
        )
        made_from = canonical(template)
        standing = [pod for pod in self._children(workload) if "deletionTimestamp" not in pod["metadata"]]
        for pod in standing:
            if pod["made_from"] != made_from:
                self.delete("Pod", pod["metadata"]["name"])
        if standing or not spec["replicas"]:
            workload["status"] = {"readyReplicas": sum(map(_is_ready, standing))}
            return
        if (
            workload["kind"] == "Deployment"
            and self._children(workload)
            and self._recreating(workload, made_from)
        ):
            return
        meta = workload["metadata"]
        self._store(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{meta['name']}-{self._uids}",
                    "namespace": "default",
                    "labels": dict(template["metadata"]["labels"]),
                    "ownerReferences": [{"uid": meta["uid"], "controller": True}],
                },
                "spec": copy.deepcopy(template["spec"]),
                "made_from": made_from,
                "status": {},
            },
            "kubelet",
        )

    def _recreating(self, workload: Object, made_from: str) -> bool:
        """A changed template waits for the pods of the old one; a pod that was merely deleted is replaced at once."""
        return any(pod["made_from"] != made_from for pod in self._children(workload))

    def _age(self, pod: Object) -> None:
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            pod["drained"] = pod.get("drained", 0.0) + 1.0
            if pod["drained"] >= DRAIN_S:
                self.objects.pop(("Pod", meta["name"]))
        elif self.now - pod["born"] >= START_S and not _is_ready(pod) and self.starts(pod):
            pod["status"]["conditions"] = [
                {"type": "Ready", "status": "True", "lastTransitionTime": text(self.now)}
            ]
            self._touch(pod)

    # Storage.

    def _store(self, found: Object, manager: str) -> Object:
        self._uids += 1
        meta = found["metadata"]
        meta |= {"uid": f"uid-{self._uids}", "generation": 1, "creationTimestamp": text(self.now)}
        found["born"] = self.now
        if "replicas" in found.get("spec", {}):
            _own_replicas(found, manager, sole=True)
        self.objects[found["kind"], meta["name"]] = found
        self._touch(found)
        return found

    def _touch(self, found: Object) -> None:
        self._versions += 1
        found["metadata"]["resourceVersion"] = str(self._versions)

    def _apply(self, wanted: Mapping[str, Any]) -> None:
        given: Object = copy.deepcopy(dict(wanted))
        key = (given["kind"], given["metadata"]["name"])
        version = given["metadata"].pop("resourceVersion", None)
        found = self.objects.get(key)
        if found is None:
            if version is not None:
                raise ConflictError(key)
            self.writes += 1
            self._store(given, names.MANAGER)
            self._applied[self.objects[key]["metadata"]["uid"]] = copy.deepcopy(dict(wanted))
            return
        if version is not None and version != found["metadata"]["resourceVersion"]:
            raise ConflictError(key)
        uid = found["metadata"]["uid"]
        before = copy.deepcopy(found)
        earlier = self._applied.get(uid, {})
        if (
            "replicas" in earlier.get("spec", {})
            and "replicas" not in given.get("spec", {})
            and _owners(found) - {names.MANAGER}
        ):
            # Somebody else holds the number: giving it up leaves it as it is.
            earlier["spec"].pop("replicas")
        _merge(found, given, earlier)
        if "replicas" in given.get("spec", {}):
            _own_replicas(
                found, names.MANAGER, sole=before["spec"].get("replicas") != found["spec"]["replicas"]
            )
        self._applied[uid] = copy.deepcopy(given)
        if canonical(before) != canonical(found):
            if before.get("spec") != found.get("spec"):
                found["metadata"]["generation"] += 1
            self.writes += 1
            self._touch(found)


def _owners(found: Object) -> set[str]:
    return {entry["manager"] for entry in found["metadata"].get("managedFields", [])}


def _own_replicas(found: Object, manager: str, *, sole: bool) -> None:
    owners = {manager} if sole else _owners(found) | {manager}
    found["metadata"]["managedFields"] = [
        {"manager": owner, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for owner in sorted(owners)
    ]


def _merge(found: Object, given: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """What was applied earlier and no longer is goes; what others have added stays."""
    for name in [name for name in earlier if name not in given]:
        found.pop(name, None)
    for name, value in given.items():
        old, before = found.get(name), earlier.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value, before if isinstance(before, dict) else {})
        elif name in KEYS and isinstance(old, list):
            key = KEYS[name]
            kept = {item[key]: item for item in old}
            was = {item[key]: item for item in before or []}
            for gone in was.keys() - {item[key] for item in value}:
                kept.pop(gone, None)
            for item in value:
                if item[key] in kept:
                    _merge(kept[item[key]], item, was.get(item[key], {}))
                else:
                    kept[item[key]] = item
            found[name] = list(kept.values())
        else:
            found[name] = copy.deepcopy(value)


def _label(found: Object, name: str) -> str | None:
    labels: dict[str, str] = found["metadata"].get("labels", {})
    return labels.get(name)


def _is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def model_service(**changes: Any) -> Object:
    """The spec of a small ModelService of simulated engines: one pool `main` of two."""
    spec: Object = {
        "model": {"name": "tiny"},
        "engine": {"type": "simulated"},
        "pools": [pool()],
        "rollout": {"maxSurge": 1, "maxUnavailable": 0, "progressDeadlineSeconds": 60},
    }
    return {**spec, **changes}


def pool(name: str = "main", **changes: Any) -> Object:
    """One of its pools."""
    accelerators = [{"name": "none", "count": 0}]
    if "autoscaling" not in changes:
        changes.setdefault("replicas", 2)
    return {"name": name, "accelerators": accelerators, **changes}
