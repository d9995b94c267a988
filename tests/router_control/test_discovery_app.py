"""A router that finds its engines through an API server, on loopback: both are there, change, fail and come back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fakekube.server import FakeKube, fake_kube
from pointsman.api.resources import names
from pointsman.api.router_config import load_router_config
from pointsman.kube.access import Access
from pointsman.kube.pacing import Timing
from pointsman.router.app import RouterApp
from pointsman.router.discovery.watch import Discovery

Eventually = Callable[[Callable[[], object]], Awaitable[None]]

SERVICES = "/apis/pointsman.io/v1alpha1/modelservices"
PODS = "/api/v1/pods"
CHAT = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
READY = {"type": "Ready", "status": "True"}


def service(name: str = "chat", model: str = "llama", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "model": {"name": model},
            "engine": {"type": "simulated"},
            "pools": [{"name": "main", "replicas": 1, "accelerators": [{"name": "cpu", "count": 0}]}],
            **spec,
        },
    }


def pod(name: str, port: int, *, ready: bool = True, role: str = "mixed") -> dict[str, Any]:
    labels = {**names.engine_selector(), names.MODEL_SERVICE: "chat", names.POOL: "main", names.ROLE: role}
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": labels,
            "annotations": {names.PORT: str(port), names.CONNECTOR: "none"},
        },
        "status": {"podIP": "127.0.0.1", "conditions": [{**READY, "status": "True" if ready else "False"}]},
    }


class Scene:
    """A router in front of a fake API server."""

    def __init__(self, app: RouterApp, kube: FakeKube, file: Path) -> None:
        self.app = app
        self.kube = kube
        self.file = file
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.public_port}")
        self.admin = httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.admin_port}")

    async def close(self) -> None:
        await self.client.aclose()
        await self.admin.aclose()

    async def ready(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.admin.get("/ready")).json()
        return told

    def urls(self) -> list[str]:
        """Of the instances that placements may go to."""
        return [found["url"] for found in self.app.instances() if found["available"]]

    def change(self, collection: str, name: str, patch: dict[str, Any]) -> None:
        self.kube.storage.merge(collection, "team", name, patch)


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with fake_kube() as server:
        yield server


Start = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def start(tmp_path: Path, kube: FakeKube) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def started(**sections: Any) -> Scene:
            file = tmp_path / "router.yaml"
            config = {
                "kubernetes": {"namespaces": ["team"]},
                "listen": {"port": 0},
                "admin": {"port": 0},
                "health": {"interval_s": 0.05},
                "queue": {"max_wait_for_instance_s": 0.0},
            }
            file.write_text(yaml.safe_dump(config | sections))
            loaded = load_router_config(file)
            assert loaded.kubernetes is not None
            timing = Timing(relist_s=0.5, first_retry_s=0.01, last_retry_s=0.05)
            clock = asyncio.get_running_loop().time
            discovery = Discovery(loaded.kubernetes, Access(kube.url), clock, timing)
            app = RouterApp(loaded, file, discovery=discovery)
            stack.push_async_callback(app.stop)
            await app.start()
            scene = Scene(app, kube, file)
            stack.push_async_callback(scene.close)
            return scene

        yield started


async def test_it_serves_what_the_cluster_has_and_says_so(start: Start, kube: FakeKube, engine: Any) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    assert scene.urls() == [engine.url]
    engine.finish.set()
    assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    told = await scene.ready()
    assert told == {"ready": True, "model_services": {"team/chat": 1}, "refused": {}, "trouble": ""}
    uid = kube.storage.get(PODS, "team", "one")["metadata"]["uid"]
    assert [found["epoch"] for found in scene.app.instances()] == [uid]
    metrics = (await scene.admin.get("/metrics")).text
    assert 'pointsman_discovery_objects{kind="Pod"} 1.0' in metrics
    selectors = {
        request.query.get("labelSelector") for request in kube.requests if request.path.endswith("pods")
    }
    assert selectors == {"app.kubernetes.io/managed-by=pointsman,app.kubernetes.io/component=engine"}


async def test_a_service_without_pods_is_503_and_none_at_all_404(start: Start, kube: FakeKube) -> None:
    kube.storage.create(SERVICES, service())
    scene = await start()
    assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 503
    listed = (await scene.client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["llama"]
    other = {**CHAT, "model": "nobody"}
    assert (await scene.client.post("/v1/chat/completions", json=other)).status_code == 404


async def test_what_comes_later_is_served_and_what_goes_is_not(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    scene = await start()
    assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 404
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    await eventually(lambda: scene.urls() == [engine.url])
    scene.change(SERVICES, "chat", {"spec": {"model": {"aliases": ["gpt"]}}})
    await eventually(lambda: scene.app.discovered()["model_services"] == {"team/chat": 2})  # type: ignore[index]
    engine.finish.set()
    assert (await scene.client.post("/v1/chat/completions", json=CHAT | {"model": "gpt"})).status_code == 200
    kube.storage.delete(SERVICES, "team", "chat")
    await eventually(lambda: scene.app.instances() == [])
    assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 404


LEAVING: dict[str, Callable[[FakeKube], object]] = {
    "not ready": lambda kube: kube.storage.merge(
        PODS, "team", "one", {"status": {"conditions": [{**READY, "status": "False"}]}}
    ),
    "gone": lambda kube: kube.storage.delete(PODS, "team", "one"),
    "no longer ours": lambda kube: kube.storage.merge(
        PODS, "team", "one", {"metadata": {"labels": {names.MODEL_SERVICE: "other"}}}
    ),
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
async def test_a_pod_that_leaves_gets_nothing_new_and_its_stream_ends_well(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually, leave: Callable[[FakeKube], object]
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    async with scene.client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        lines = response.aiter_lines()
        assert '"Hi"' in await anext(lines)
        leave(kube)
        await eventually(lambda: scene.urls() == [])
        assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 503
        engine.finish.set()
        rest = [line async for line in lines]
    assert rest[-2:] == ["data: [DONE]", ""] or "data: [DONE]" in rest


async def test_a_terminating_pod_leaves_though_it_is_ready(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    kube.storage.create(SERVICES, service())
    terminating = pod("late", engine.port)
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    kube.storage.create(PODS, terminating)
    scene = await start()
    assert scene.urls() == []
    kube.storage.delete(PODS, "team", "late")
    kube.storage.create(PODS, pod("one", engine.port))
    await eventually(lambda: scene.urls() == [engine.url])


async def test_a_new_role_counts_at_once_and_keeps_the_instance(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    (before,) = scene.app.instances()
    scene.change(PODS, "one", {"metadata": {"labels": {names.ROLE: "decode"}}})
    await eventually(lambda: scene.app.instances()[0]["role"] == "decode")
    (after,) = scene.app.instances()
    assert (before["epoch"], before["available"]) == (after["epoch"], after["available"])


async def test_an_api_server_that_dies_stops_nothing(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    port = int(kube.url.rsplit(":", 1)[1])
    engine.finish.set()
    await kube.stop()
    await eventually(lambda: scene.app.discovered()["trouble"])  # type: ignore[index]
    for _ in range(3):
        assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert (await scene.admin.get("/ready")).status_code == 200
    kube.storage.create(SERVICES, service("more", "mistral"))
    await kube.start(port)
    await eventually(lambda: "team/more" in scene.app.discovered()["model_services"])  # type: ignore[index]
    await eventually(lambda: scene.app.discovered()["trouble"] == "")  # type: ignore[index]


async def test_events_that_get_lost_are_found_by_the_next_list(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    await eventually(lambda: len(scene.app.instances()) == 1)
    kube.faults.lose_events = True
    kube.storage.delete(PODS, "team", "one")
    await eventually(lambda: scene.app.instances() == [])


async def test_a_spec_that_cannot_be_served_is_named_and_the_last_good_one_stays(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    with caplog.at_level(logging.WARNING):
        scene.change(SERVICES, "chat", {"spec": {"routing": {"policy": {"name": "guesswork"}}}})
        await eventually(lambda: scene.app.discovered()["refused"])  # type: ignore[index]
    told = await scene.ready()
    assert told["model_services"] == {"team/chat": 1}
    assert "guesswork" in told["refused"]["team/chat"]
    assert "team/chat" in caplog.text
    engine.finish.set()
    assert (await scene.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_a_file_that_changes_keeps_what_was_found(
    start: Start, kube: FakeKube, engine: Any, eventually: Eventually
) -> None:
    kube.storage.create(SERVICES, service())
    kube.storage.create(PODS, pod("one", engine.port))
    scene = await start()
    content = yaml.safe_load(scene.file.read_text())
    fixed = {"name": "fixed", "instances": [{"url": "http://127.0.0.1:1"}]}
    scene.file.write_text(yaml.safe_dump(content | {"models": [fixed]}))
    assert await scene.app.reload() == ""
    listed = (await scene.client.get("/v1/models")).json()
    assert {model["id"] for model in listed["data"]} == {"fixed", "llama"}
    assert engine.url in scene.urls()


async def test_it_is_not_ready_before_it_knows_what_to_serve(tmp_path: Path, kube: FakeKube) -> None:
    kube.faults.hang = True
    file = tmp_path / "router.yaml"
    file.write_text(yaml.safe_dump({"kubernetes": {}, "listen": {"port": 0}, "admin": {"port": 0}}))
    config = load_router_config(file)
    assert config.kubernetes is not None
    discovery = Discovery(config.kubernetes, Access(kube.url), asyncio.get_running_loop().time)
    app = RouterApp(config, file, discovery=discovery)
    starting = asyncio.create_task(app.start())
    try:
        async with httpx.AsyncClient() as client:
            while not app.admin_port:
                await asyncio.sleep(0.01)
            answer = await client.get(f"http://127.0.0.1:{app.admin_port}/ready")
            assert answer.status_code == 503
            assert answer.json()["ready"] is False
            assert "the cluster has not told" in answer.json()["why"]
            assert (await client.get(f"http://127.0.0.1:{app.admin_port}/health")).status_code == 200
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await app.stop()
