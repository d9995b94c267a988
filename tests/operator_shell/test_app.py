"""Whole operators on a fake API server: what they make, keep, leave alone, and say of themselves."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fakekube.server import FakeKube, lost_events
from fakekube.storage import Object
from pointsman.controller.app import ControllerApp, ControllerOptions
from pointsman.controller.reconcile.observed import ClusterFacts
from pointsman.controller.working import Pace
from pointsman.kube.access import Access
from pointsman.kube.election import Terms
from pointsman.kube.pacing import Timing
from pointsman.kube.resource import (
    DEPLOYMENTS,
    EVENTS,
    INSTANCE_POOLS,
    LEADER_WORKER_SETS,
    LEASES,
    MODEL_SERVICES,
    PODS,
    Key,
)

TIMING = Timing(relist_s=0.5, idle_s=5, first_retry_s=0.01, last_retry_s=0.1, healthy_s=0.001)
# A busy machine must not cost a leader its Lease; what is handed over here is handed over in order.
TERMS = Terms(lease_s=20, give_up_s=15, retry_s=0.1)
PACE = Pace(workers=4, resync_s=3600, first_retry_s=0.01, last_retry_s=0.2)


def model_service(name: str = "demo", replicas: int = 2, engine: str = "simulated") -> Object:
    pool = {"name": "main", "replicas": replicas, "accelerators": [{"name": "h100"}]}
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {
            "model": {"name": name, "source": {"hub": {"id": "some/model"}}},
            "engine": {"type": engine},
            "pools": [pool],
        },
    }


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def deployments(fake: FakeKube) -> list[Object]:
    return fake.storage.all(DEPLOYMENTS.path())


@asynccontextmanager
async def operator(fake: FakeKube, identity: str = "one", **changes: Any) -> AsyncIterator[ControllerApp]:
    fake.faults.absent.add(LEADER_WORKER_SETS.path())
    given: dict[str, Any] = {
        "pace": PACE,
        "timing": TIMING,
        "told": ClusterFacts(own_image="pointsman:test"),
    } | changes
    options = ControllerOptions(
        lease=Key("home", "lease"), identity=identity, host="127.0.0.1", port=0, terms=TERMS, **given
    )
    app = ControllerApp(Access(fake.url), options)
    task = asyncio.create_task(app.run())
    try:
        yield app
        assert not task.done(), task.exception()
    finally:
        app.stop()
        await asyncio.gather(task, return_exceptions=True)


async def answer(app: ControllerApp, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{app.port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_a_model_service_becomes_pools_and_instances_and_then_nothing_is_written(
    fake: FakeKube,
) -> None:
    async with operator(fake) as app:
        fake.storage.create(MODEL_SERVICES.path(), model_service())
        await until(lambda: len(deployments(fake)) == 2)
        await until(lambda: "status" in fake.storage.get(MODEL_SERVICES.path(), "ns", "demo"))
        await asyncio.sleep(1.0)
        before = len([request for request in fake.writes() if "/leases" not in request.path])
        await asyncio.sleep(1.5)  # several lists, and kopf's events, come and go
        after = [request for request in fake.writes() if "/leases" not in request.path]
        assert after[before:] == []
        status, text = await answer(app, "/metrics")
        assert status == 200
        assert 'pointsman_operator_writes_total{resource="deployments",verb="patch"} 2.0' in text
        assert "pointsman_operator_leader 1.0" in text
        assert 'pointsman_operator_cache_objects{resource="instancepools"} 1.0' in text


async def test_drift_is_repaired_even_when_its_event_is_lost(fake: FakeKube) -> None:
    fake.storage.create(MODEL_SERVICES.path(), model_service())
    async with operator(fake):
        await until(lambda: len(deployments(fake)) == 2)
        name = deployments(fake)[0]["metadata"]["name"]
        with lost_events(fake):
            fake.storage.delete(DEPLOYMENTS.path(), "ns", name)
        assert len(deployments(fake)) == 1
        await until(lambda: len(deployments(fake)) == 2)


async def test_a_standby_is_ready_writes_nothing_and_takes_over(fake: FakeKube) -> None:
    fake.storage.create(MODEL_SERVICES.path(), model_service())
    async with operator(fake, "first"):
        await until(lambda: len(deployments(fake)) == 2)
        async with operator(fake, "second") as second:
            await until(lambda: second.port is not None)
            while (await answer(second, "/ready"))[0] != 200:
                await asyncio.sleep(0.01)
            assert "pointsman_operator_leader 0.0" in (await answer(second, "/metrics"))[1]
            holder = fake.storage.get(LEASES.path(), "home", "lease")["spec"]["holderIdentity"]
            assert holder == "first"
    # The first has given its Lease back in order.
    async with operator(fake, "third"):
        fake.storage.create(MODEL_SERVICES.path(), model_service("more"))
        await until(lambda: len(deployments(fake)) == 4)
    assert fake.storage.get(LEASES.path(), "home", "lease")["spec"]["holderIdentity"] == ""


async def test_nothing_is_decided_on_half_a_picture(fake: FakeKube) -> None:
    fake.storage.create(MODEL_SERVICES.path(), model_service())
    async with operator(fake):
        await until(lambda: len(deployments(fake)) == 2)
    made = {each["metadata"]["name"] for each in deployments(fake)}
    # Deployments cannot be listed now: absent children must not be made again.
    fake.faults.absent.add(DEPLOYMENTS.path())
    before = len(fake.writes())
    async with operator(fake) as app:
        await until(lambda: app.port is not None)
        await asyncio.sleep(0.5)
        assert (await answer(app, "/ready"))[0] == 503
        assert (await answer(app, "/health"))[0] == 200  # trying is no death
        assert {request.path.split("/")[-1] for request in fake.writes()[before:]} <= {"lease", "leases"}
        fake.faults.absent.discard(DEPLOYMENTS.path())
        while (await answer(app, "/ready"))[0] != 200:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
    assert {each["metadata"]["name"] for each in deployments(fake)} == made


async def test_what_the_api_server_refuses_becomes_a_condition_and_is_tried_again(fake: FakeKube) -> None:
    from fakekube.storage import RefusalError

    refusing = True

    def refuse(request: Any) -> None:
        if refusing and "/deployments/" in request.path:
            raise RefusalError(403, "Forbidden", "exceeded quota: gpus")

    fake.before_write = refuse
    fake.storage.create(MODEL_SERVICES.path(), model_service())

    def told() -> bool:
        pools = fake.storage.all(INSTANCE_POOLS.path())
        return "exceeded quota" in str(pools[0].get("status")) if pools else False

    async with operator(fake):
        await until(told)
        refusing = False
        await until(lambda: len(deployments(fake)) == 2)
        await until(lambda: not told())


async def test_a_bad_spec_stops_nobody_else(fake: FakeKube) -> None:
    bad = model_service("bad")
    bad["spec"]["pools"] = "no list at all"
    worse = model_service("worse")
    worse["metadata"]["labels"] = None
    worse["spec"] = None
    fake.storage.create(MODEL_SERVICES.path(), bad)
    fake.storage.create(MODEL_SERVICES.path(), worse)
    async with operator(fake):
        fake.storage.create(MODEL_SERVICES.path(), model_service("good"))
        await until(lambda: len(deployments(fake)) == 2)


async def test_routers_are_asked_what_they_have_loaded(fake: FakeKube) -> None:
    generation = 0

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"model_services": {"ns/demo": generation}})

    app = web.Application()
    app.router.add_get("/ready", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    fake.storage.create(
        PODS.path(),
        {
            "metadata": {
                "name": "router-1",
                "namespace": "home",
                "labels": {"app.kubernetes.io/component": "router"},
            },
            "spec": {"containers": [{"ports": [{"name": "admin", "containerPort": port}]}]},
            "status": {"podIP": "127.0.0.1"},
        },
    )
    fake.storage.create(MODEL_SERVICES.path(), model_service())

    def router_ready() -> str:
        status = fake.storage.get(MODEL_SERVICES.path(), "ns", "demo").get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return str(conditions.get("RouterReady"))

    try:
        async with operator(fake):
            await until(lambda: router_ready() == "False")
            generation = 1
            await until(lambda: router_ready() == "True")
            await asyncio.sleep(1.0)
        # Who leads next has asked before it says anything: no condition is Unknown for a moment.
        before = len(fake.writes())
        async with operator(fake, "two") as two:
            await until(lambda: two.port is not None)
            while "pointsman_operator_leader 1.0" not in (await answer(two, "/metrics"))[1]:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
        assert {request.path.rsplit("/", 1)[-1] for request in fake.writes()[before:]} == {"lease"}
    finally:
        await runner.cleanup()


async def test_that_no_router_is_there_is_said_at_once(fake: FakeKube) -> None:
    fake.storage.create(MODEL_SERVICES.path(), model_service())

    def reason() -> str:
        status = fake.storage.get(MODEL_SERVICES.path(), "ns", "demo").get("status", {})
        return str({each["type"]: each["reason"] for each in status.get("conditions", ())}.get("RouterReady"))

    async with operator(fake):
        await until(lambda: reason() == "NoRouter")


async def test_a_watch_that_has_died_is_seen_from_outside(fake: FakeKube) -> None:
    later_s = 0.0
    options = ControllerOptions(
        lease=Key("home", "lease"),
        identity="one",
        host="127.0.0.1",
        port=0,
        terms=TERMS,
        pace=PACE,
        timing=TIMING,
    )
    fake.faults.absent.add(LEADER_WORKER_SETS.path())
    app = ControllerApp(Access(fake.url), options, clock=lambda: time.monotonic() + later_s)
    task = asyncio.create_task(app.run())
    await until(lambda: app.port is not None)
    while (await answer(app, "/ready"))[0] != 200:
        await asyncio.sleep(0.01)
    assert (await answer(app, "/health"))[0] == 200
    later_s = 3600.0  # in which nothing has heard or tried anything
    status, text = await answer(app, "/health")
    assert (status, text.startswith("watches have died: ")) == (503, True)
    app.stop()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_end_leaves_no_thread(fake: FakeKube) -> None:
    async with operator(fake) as app:
        await until(lambda: app.port is not None)
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "kopf"])
    assert fake.storage.all(EVENTS.path()) == []


async def test_a_taken_port_is_said(fake: FakeKube) -> None:
    async with operator(fake) as app:
        await until(lambda: app.port is not None)
        options = ControllerOptions(
            lease=Key("home", "lease"), identity="two", host="127.0.0.1", port=app.port or 0
        )
        with pytest.raises(OSError, match="address already in use"):
            await ControllerApp(Access(fake.url), options).run()
