"""The roles hold what was used and no more: both components, in one namespace and in all, by the API server's audit log."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import commands, leader_worker_set
from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import HOME, LEASE, Operator, direct_kubeconfig, grant, nursery
from e2e.cluster.operating.rights import ROUTER, Call, Grant, beyond, calls, superfluous
from e2e.cluster.operating.scenario import MANAGER, OURS
from pointsman.api.crd.definitions import definitions
from pointsman.api.profile import load_profile_file
from pointsman.api.resources.engine_profile import EngineProfile
from pointsman.controller import roles
from pointsman.kube.access import kubeconfig_access
from pointsman.kube.client import ApiClient
from pointsman.kube.resource import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    ENGINE_PROFILES,
    EVENTS,
    LEADER_WORKER_SETS,
    MODEL_SERVICES,
    PODS,
    Object,
    Resource,
)

NEVER_CALLED = {("modelservices/finalizers", "update"), ("instancepools/finalizers", "update")}
"""Asked for by an admission plugin that is off here (OwnerReferencesPermissionEnforcement); no call has these verbs."""
SHAPE = {"name": "a", "count": 1}
PROFILE = "a100-opt-13b"


@pytest.fixture(scope="module")
def plane(control_plane: LocalCluster) -> LocalCluster:
    control_plane.apply(*definitions(), *leader_worker_set.definitions())
    control_plane.add_fake_nodes(1, gpus=64)
    kinds = "modelservices,instancepools,engineprofiles,leaderworkersets"
    eventually(
        lambda: control_plane.run(["kubectl", "get", kinds, "-A"], check=False).returncode == 0,
        "the definitions are not served",
    )
    return control_plane


def service(namespace: str, *pools: dict[str, Any], args: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "apiVersion": MODEL_SERVICES.api_version,
        "kind": MODEL_SERVICES.kind,
        "metadata": {"name": "llm", "namespace": namespace},
        "spec": {
            "model": {"name": "llm"},
            "engine": {"type": "simulated", "args": list(args)},
            "pools": list(pools),
        },
    }


def sleeping(profile: str | None) -> dict[str, Any]:
    """A pool whose revisions come and go without a pod; its blueprints hold this profile."""
    shape = SHAPE if profile is None else {**SHAPE, "profile": profile}
    return {"name": "sleeps", "replicas": 0, "accelerators": [shape]}


def spanning(replicas: int) -> dict[str, Any]:
    return {"name": "spans", "replicas": replicas, "accelerators": [SHAPE], "parallelism": {"nodes": 2}}


def awake(replicas: int) -> dict[str, Any]:
    return {"name": "awake", "replicas": replicas, "accelerators": [SHAPE]}


class Person:
    """Does what makes an operator use every right it has."""

    def __init__(self, admin: ApiClient, namespace: str) -> None:
        self.admin = admin
        self.namespace = namespace

    async def asks_for(self, *pools: dict[str, Any], args: tuple[str, ...] = ()) -> None:
        await self.admin.apply(MODEL_SERVICES, service(self.namespace, *pools, args=args), manager=MANAGER)

    async def names(self, resource: Resource, selector: str = OURS) -> set[str]:
        listing = await self.admin.list(resource, self.namespace, selector=selector)
        return {str(found["metadata"]["name"]) for found in listing.items}

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            await asyncio.sleep(0.1)

    async def until_there(self, resource: Resource, count: int) -> set[str]:
        async def so_many() -> bool:
            return len(await self.names(resource)) == count

        await self.until(so_many)
        return await self.names(resource)


async def use_every_right(person: Person, operator: Operator) -> None:
    await person.asks_for(spanning(2), sleeping(PROFILE))
    await person.until_there(LEADER_WORKER_SETS, 2)
    (first,) = await person.until_there(CONFIG_MAPS, 1)
    await person.asks_for(spanning(1), sleeping(PROFILE))
    await person.until_there(LEADER_WORKER_SETS, 1)
    # Another profile is another revision; then the old ones go, and with them the file that they were made with.
    for number in range(5):
        await person.asks_for(sleeping(None if number else f"{PROFILE}-2"), args=(f"--seed={number}",))
        await person.until(lambda number=number: _has_revision(person, number))  # type: ignore[misc]

    async def first_is_gone() -> bool:
        return first not in await person.names(CONFIG_MAPS)

    await person.until(first_is_gone)
    # An instance that is made again has its name again, and what a new process tells of that is no new Event.
    await person.asks_for(awake(1))
    await person.until_there(DEPLOYMENTS, 1)
    await person.until(lambda: _told_of_instances(person))
    await person.asks_for(awake(0))
    await person.until_there(DEPLOYMENTS, 0)
    await person.until_there(PODS, 0)
    assert await operator.stop() == 0
    await operator.start()
    await person.asks_for(awake(1))
    await person.until_there(DEPLOYMENTS, 1)
    await person.until(lambda: _told_of_instances(person, times=2))


async def _has_revision(person: Person, number: int) -> bool:
    revisions = (await person.admin.list(CONTROLLER_REVISIONS, person.namespace, selector=OURS)).items
    return any(f"--seed={number}" in str(found["data"]) for found in revisions)


async def _told_of_instances(person: Person, times: int = 1) -> bool:
    events = (await person.admin.list(EVENTS, person.namespace)).items
    of_pool: list[Object] = [
        event
        for event in events
        if event.get("reason") == "InstancesCreated" and event["regarding"]["name"] == "llm-awake"
    ]
    return any((event.get("series") or {}).get("count", 1) >= times for event in of_pool)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("everywhere", [False, True], ids=["one namespace", "all namespaces"])
async def test_the_operators_roles_are_exactly_what_it_uses(
    plane: LocalCluster, tmp_path: Path, *, everywhere: bool
) -> None:
    namespace, account = ("everywhere", "operator-everywhere") if everywhere else ("alone", "operator-alone")
    plane.kubectl("create", "namespace", namespace)
    watched = [] if everywhere else [namespace]
    token = grant(plane, watched, account)
    plane.kubectl("delete", "lease", LEASE, f"--namespace={HOME}", "--ignore-not-found")
    kubeconfig = direct_kubeconfig(tmp_path / "kubeconfig", plane, token)
    with plane.sandbox.network():
        async with (
            nursery() as started,
            ApiClient(kubeconfig_access(Path(plane.environment["KUBECONFIG"]))) as admin,
        ):
            file = load_profile_file(PROFILE)
            for copy in (file, file.model_copy(update={"name": f"{PROFILE}-2", "block_size": 32})):
                profile = EngineProfile.from_file(copy).to_wire()
                await admin.apply(ENGINE_PROFILES, profile, manager=MANAGER)
            operator = Operator(started, kubeconfig, tmp_path, namespaces=watched, port=0)
            await operator.start()
            await use_every_right(Person(admin, namespace), operator)
            await operator.stop()
    grants = [
        *(Grant(rule, namespace="" if everywhere else namespace) for rule in roles.in_watched_namespaces()),
        *(Grant(rule) for rule in roles.on_the_cluster()),
        *(Grant(rule, namespace=HOME) for rule in roles.at_home(LEASE)),
    ]
    hold_against(plane, account, grants, NEVER_CALLED)


@pytest.mark.parametrize("everywhere", [False, True], ids=["one namespace", "all namespaces"])
def test_the_routers_roles_are_exactly_what_it_uses(
    plane: LocalCluster, tmp_path: Path, *, everywhere: bool
) -> None:
    namespace, account = ("routed", "router-everywhere") if everywhere else ("routed-alone", "router-alone")
    plane.kubectl("create", "namespace", namespace)
    token = grant(plane, [] if everywhere else [namespace], account, ROUTER)
    kubeconfig = direct_kubeconfig(tmp_path / "kubeconfig", plane, token)
    config = {
        "kubernetes": {"namespaces": [] if everywhere else [namespace], "kubeconfig": str(kubeconfig)},
        "listen": {"port": 18080},
        "admin": {"port": 18081},
    }
    file = tmp_path / "router.yaml"
    file.write_text(yaml.safe_dump(config))
    router = subprocess.Popen(
        plane.command([sys.executable, "-m", "pointsman.cli", "router", f"--config={file}"]),
        env={**commands.without_proxies(), **plane.environment},
    )
    grants = [Grant(rule, namespace="" if everywhere else namespace) for rule in ROUTER]
    try:
        eventually(
            lambda: not superfluous(grants, done_by(plane, account)), "the router does not use its rights"
        )
    finally:
        router.terminate()
        router.wait()
    hold_against(plane, account, grants, set())


def done_by(plane: LocalCluster, account: str) -> set[Call]:
    done, refused = calls(plane.control_plane.audit_log, f"system:serviceaccount:{HOME}:{account}")
    assert refused == set()
    return done


def hold_against(
    plane: LocalCluster, account: str, grants: list[Grant], never_called: set[tuple[str, str]]
) -> None:
    done = done_by(plane, account)
    assert beyond(grants, done) == set()
    assert superfluous(grants, done) == never_called
