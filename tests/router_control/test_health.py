"""Engines that are asked how they are: real servers, real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pointsman.api.router_config import RouterConfig
from pointsman.core.cluster import Cluster
from pointsman.http.client import Failure, Sweeper
from pointsman.router.fleet import Fleet, Member
from pointsman.router.health import MAX_PAGE_BYTES, Watch

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
MakeConfig = Callable[..., RouterConfig]

FAST = {
    "health": {"interval_s": 0.05, "timeout_s": 0.5, "max_interval_s": 0.1, "failures": 2},
    "scrape": {"interval_s": 0.05},
}


class Recorder:
    def __init__(self) -> None:
        self.cluster = Cluster()

    def record(self, event: Any) -> None:
        self.cluster.apply(event)


class Scene:
    def __init__(self) -> None:
        self.sweeper = Sweeper()
        self.watch = Watch(self.sweeper.clock, Random(1))
        self.recorder = Recorder()
        self.fleet = Fleet(self.recorder, self.sweeper, lambda identity: 0, self.watch.suspect)

    def apply(self, config: RouterConfig) -> None:
        self.fleet.apply(config, None)
        self.watch.apply(self.fleet, config)

    def member(self, url: str) -> Member:
        member = self.fleet.member(url)
        assert member is not None
        return member


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.watch.close()
    scene.fleet.close()
    scene.sweeper.close()


def models(url: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": "llama", "instances": [{"url": url} | fields]}]


async def test_the_first_round_finds_engines_and_who_they_are(
    scene: Scene, engine: Any, make_config: MakeConfig
) -> None:
    scene.apply(make_config(models=models(engine.url)))
    await scene.watch.first_round(5)
    member = scene.member(engine.url)
    assert member.available
    assert member.id.epoch == "1.0"
    assert member.sample is not None
    assert member.sample.running == 1


async def test_the_first_round_does_not_wait_for_ever(
    scene: Scene, engine: Any, make_config: MakeConfig
) -> None:
    engine.silent = True
    config = make_config(models=models(engine.url), health={"timeout_s": 60})
    scene.apply(config)
    await scene.watch.first_round(0.05)
    assert not scene.member(engine.url).available


async def test_an_engine_that_says_it_is_ill_is_not_used(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(make_config(models=models(engine.url), **FAST))
    member = scene.member(engine.url)
    await eventually(lambda: member.available)
    engine.health = 503
    await eventually(lambda: not member.available)
    assert member.why == "503 to GET /health"
    engine.health = 200
    await eventually(lambda: member.available)
    assert member.id.epoch == "1.0"


async def test_an_engine_that_answers_nothing_is_not_used(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(
        make_config(models=models(engine.url), **(FAST | {"health": FAST["health"] | {"timeout_s": 0.05}}))
    )
    member = scene.member(engine.url)
    await eventually(lambda: member.available)
    engine.silent = True
    await eventually(lambda: not member.available)
    assert member.why == "no answer to GET /health within 0.05 s"


async def test_a_restarted_engine_is_another_instance(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(make_config(models=models(engine.url), **FAST))
    member = scene.member(engine.url)
    await eventually(lambda: member.available)
    await engine.close()
    await eventually(lambda: not member.available)
    assert "connect" in member.why
    engine.start = 2.0
    await engine.listen()
    await eventually(lambda: member.available)
    assert member.id.epoch == "2.0"


async def test_an_engine_whose_requests_fail_is_checked_at_once(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    slow = {"health": {"interval_s": 3600, "max_interval_s": 3600}, "scrape": {"interval_s": 3600}}
    scene.apply(make_config(models=models(engine.url), **slow))
    member = scene.member(engine.url)
    await eventually(lambda: member.available)
    await engine.close()
    scene.fleet.failed(member.id, Failure.CONNECT)
    await eventually(lambda: not member.available)
    assert "connect" in member.why


async def test_an_engine_without_metrics_serves_all_the_same(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(
        make_config(
            models=models(engine.url), **(FAST | {"scrape": {"path": "/nothing", "interval_s": 0.05}})
        )
    )
    await eventually(lambda: scene.member(engine.url).available)
    assert scene.member(engine.url).sample is None


async def test_a_page_without_end_is_given_up(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    engine.metrics = "x" * (MAX_PAGE_BYTES + 1)
    scene.apply(make_config(models=models(engine.url), **FAST))
    await eventually(lambda: scene.member(engine.url).available)
    assert scene.member(engine.url).sample is None


async def test_a_wrong_health_path_is_explained(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(make_config(models=models(engine.url), health=FAST["health"] | {"path": "/healthz"}))
    await eventually(lambda: "404" in scene.member(engine.url).why)
    assert "health.path" in scene.member(engine.url).why


async def test_engines_are_asked_with_their_key(
    scene: Scene, engine: Any, make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-1")
    scene.apply(make_config(models=models(engine.url, api_key_file=str(tmp_path / "key"))))
    await scene.watch.first_round(5)
    assert engine.authorizations == {"authorization: Bearer sk-1"}


async def test_an_engine_that_left_is_no_longer_asked(
    scene: Scene, engine: Any, make_config: MakeConfig, eventually: Eventually
) -> None:
    scene.apply(make_config(models=models(engine.url), **FAST))
    await eventually(lambda: scene.member(engine.url).available)
    tasks = len(asyncio.all_tasks())
    scene.apply(make_config(models=models("http://127.0.0.1:1"), **FAST))
    assert scene.fleet.member(engine.url) is None
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
