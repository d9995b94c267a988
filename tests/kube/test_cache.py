"""The cache on a real connection: events, and everything that can keep them from coming."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakekube.server import FakeKube, fake_kube, lost_events
from pointsman.kube.access import Access
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.pacing import Timing
from pointsman.kube.resource import LEADER_WORKER_SETS, PODS, Key, Object
from pointsman.kube.store import Change

COLLECTION = "/api/v1/pods"
QUICK = Timing(relist_s=3600, idle_s=5, first_retry_s=0.01, last_retry_s=0.05, healthy_s=0.001)


def pod(name: str, namespace: str = "ns", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {},
    }


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


class Seen:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def __call__(self, change: Change[Any]) -> None:
        self.changes.append((change.kind.value, change.key.name))


@asynccontextmanager
async def running(client: ApiClient, **options: Any) -> AsyncIterator[tuple[Cache[str], Seen]]:
    seen = Seen()
    given: dict[str, Any] = {"timing": QUICK, "on_change": seen} | options
    cache = Cache(client, given.pop("resource", PODS), name_of, **given)
    task = asyncio.create_task(cache.run())
    try:
        await cache.synced()
        yield cache, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_lists_then_follows(fake: FakeKube, client: ApiClient) -> None:
    fake.storage.create(COLLECTION, pod("a"))
    async with running(client) as (cache, seen):
        assert cache.get(Key("ns", "a")) == "a"
        fake.storage.create(COLLECTION, pod("b"))
        fake.storage.merge(COLLECTION, "ns", "a", {"metadata": {"labels": {"x": "y"}}})
        fake.storage.delete(COLLECTION, "ns", "b")
        await until(lambda: len(seen.changes) == 4)
        assert seen.changes == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
        assert len(cache) == 1


async def test_a_list_of_many_pages_is_one_snapshot(fake: FakeKube) -> None:
    for number in range(25):
        fake.storage.create(COLLECTION, pod(f"p{number:02}"))
    async with ApiClient(Access(fake.url)) as client:
        pages = 0

        def change_between(_: Any) -> None:
            nonlocal pages
            pages += 1
            if pages == 1:
                fake.storage.create(COLLECTION, pod("late"))

        listing = client.list(PODS, page=10)
        task = asyncio.create_task(listing)
        await until(lambda: len(fake.requests) >= 1)
        change_between(None)
        result = await task
    names = [name_of(item) for item in result.items]
    assert len([name for name in names if name != "late"]) == len(set(names) - {"late"}) == 25
    assert all(item["kind"] == "Pod" and item["apiVersion"] == "v1" for item in result.items)
    assert [request.query["limit"] for request in fake.requests] == ["10"] * 3


async def test_only_what_the_selector_and_the_namespaces_say(fake: FakeKube, client: ApiClient) -> None:
    for namespace in ("one", "two", "three"):
        fake.storage.create(COLLECTION, pod("mine", namespace, app="engine"))
        fake.storage.create(COLLECTION, pod("other", namespace))
    async with running(client, namespaces=("one", "two"), selector="app=engine") as (cache, seen):
        assert {key for key, _ in cache.items()} == {Key("one", "mine"), Key("two", "mine")}
        await until(lambda: fake.watches == 2)
        fake.storage.create(COLLECTION, pod("new", "two", app="engine"))
        fake.storage.create(COLLECTION, pod("new", "three", app="engine"))
        fake.storage.merge(COLLECTION, "one", "mine", {"metadata": {"labels": None}})
        await until(lambda: len(seen.changes) == 4)
        assert sorted(seen.changes[2:]) == [("ADDED", "new"), ("DELETED", "mine")]


async def test_lost_events_are_invented_by_the_next_list(fake: FakeKube, client: ApiClient) -> None:
    for name in ("gone", "changed", "anew"):
        fake.storage.create(COLLECTION, pod(name))
    timing = Timing(relist_s=0.4, idle_s=5, first_retry_s=0.01, last_retry_s=0.05, healthy_s=0.001)
    async with running(client, timing=timing) as (cache, seen):
        await until(lambda: fake.watches == 1)
        with lost_events(fake):
            fake.storage.delete(COLLECTION, "ns", "gone")
            fake.storage.merge(COLLECTION, "ns", "changed", {"spec": {"x": 1}})
            fake.storage.delete(COLLECTION, "ns", "anew")
            fake.storage.create(COLLECTION, pod("anew"))
            fake.storage.create(COLLECTION, pod("new"))
        await until(lambda: len(seen.changes) == 8)
        assert sorted(seen.changes[3:]) == [
            ("ADDED", "anew"),
            ("ADDED", "new"),
            ("DELETED", "anew"),
            ("DELETED", "gone"),
            ("MODIFIED", "changed"),
        ]
        assert cache.counts.invented == 5
        assert {key.name for key, _ in cache.items()} == {"changed", "anew", "new"}


async def test_a_version_no_longer_kept_means_a_new_list(fake: FakeKube, client: ApiClient) -> None:
    fake.storage.create(COLLECTION, pod("a"))
    async with running(client) as (cache, seen):
        await until(lambda: fake.watches == 1)
        with lost_events(fake):
            fake.storage.delete(COLLECTION, "ns", "a")
            fake.storage.create(COLLECTION, pod("b"))
        fake.storage.compact()
        # The version that the bookmarks told must not be newer than what was compacted.
        fake.storage.compacted += 1
        fake.cut_connections()
        await until(lambda: len(seen.changes) == 3)
        assert seen.changes[1:] == [("DELETED", "a"), ("ADDED", "b")]
        assert cache.counts.lists >= 2


@pytest.mark.parametrize("status", [410, 429, 500, 503])
async def test_failures_are_waited_out(fake: FakeKube, client: ApiClient, status: int) -> None:
    fake.faults.failures = [status] * 5
    async with running(client) as (cache, _):
        fake.storage.create(COLLECTION, pod("a"))
        await until(lambda: len(cache) == 1)
        assert cache.counts.errors == 5
        assert cache.trouble == ""


async def test_cut_connections_lose_and_repeat_nothing(fake: FakeKube, client: ApiClient) -> None:
    async with running(client) as (cache, seen):
        for number in range(30):
            fake.storage.create(COLLECTION, pod(f"p{number}"))
            if number % 5 == 0:
                fake.cut_connections()
                await asyncio.sleep(0.02)
        await until(lambda: len(cache) == 30)
        assert sorted(seen.changes) == sorted(("ADDED", f"p{number}") for number in range(30))


async def test_a_page_that_expired_begins_the_list_again(fake: FakeKube, client: ApiClient) -> None:
    for number in range(1200):
        fake.storage.create(COLLECTION, pod(f"p{number}"))
    forgotten = False

    class Forgetful(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            nonlocal forgotten
            if not forgotten:
                forgotten = True
                return False
            return super().__contains__(key)

    fake._snapshots = Forgetful()
    async with running(client) as (cache, seen):
        assert forgotten
        assert len(cache) == 1200
        assert len(seen.changes) == 1200


async def test_a_silent_watch_is_given_up(fake: FakeKube, client: ApiClient) -> None:
    timing = Timing(relist_s=3600, idle_s=0.3, first_retry_s=0.01, last_retry_s=0.05, healthy_s=0.001)
    async with running(client, timing=timing) as (cache, seen):
        await until(lambda: fake.watches == 1)
        fake.faults.hang = True
        fake.storage.create(COLLECTION, pod("a"))
        await until(lambda: cache.counts.errors >= 1)
        assert seen.changes == []
        fake.faults.hang = False
        fake._never.set()
        await until(lambda: len(cache) == 1)
        assert seen.changes == [("ADDED", "a")]


async def test_an_ordered_end_is_resumed_without_a_list(fake: FakeKube, client: ApiClient) -> None:
    async with running(client) as (cache, seen):
        await until(lambda: fake.watches == 1)
        fake.faults.end_watches_at_once = True
        fake.cut_connections()
        await until(lambda: cache.counts.watches >= 4)
        lists = cache.counts.lists
        fake.faults.end_watches_at_once = False
        fake.storage.create(COLLECTION, pod("a"))
        await until(lambda: len(seen.changes) == 1)
        assert cache.counts.lists == lists


async def test_watches_that_end_at_once_are_not_started_in_a_loop(fake: FakeKube, client: ApiClient) -> None:
    fake.faults.end_watches_at_once = True
    timing = Timing(relist_s=3600, first_retry_s=0.1, last_retry_s=10, healthy_s=5)
    async with running(client, timing=timing) as (cache, _):
        await asyncio.sleep(0.5)
        # Pauses of at least 0.05, 0.1, 0.2 and 0.4 s lie between them.
        assert 1 <= cache.counts.watches <= 4


async def test_a_kind_that_is_not_installed_counts_as_empty_until_it_is(
    fake: FakeKube, client: ApiClient
) -> None:
    collection = LEADER_WORKER_SETS.path()
    fake.faults.absent.add(collection)
    timing = Timing(relist_s=0.1, first_retry_s=0.01, last_retry_s=0.05, healthy_s=0.001)
    async with running(client, resource=LEADER_WORKER_SETS, optional=True, timing=timing) as (cache, _):
        assert len(cache) == 0
        assert cache.trouble == ""
        fake.storage.create(collection, pod("group"))
        fake.faults.absent.clear()
        await until(lambda: len(cache) == 1)


async def test_what_may_not_be_read_is_said(client: ApiClient, fake: FakeKube) -> None:
    fake.faults.failures = [403] * 1000
    cache = Cache(client, PODS, name_of, timing=QUICK)
    task = asyncio.create_task(cache.run())
    await until(lambda: cache.trouble != "")
    assert "kubectl auth can-i" in cache.trouble
    assert not cache.is_synced
    assert cache.age_s(time.monotonic()) == float("inf")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_staleness_grows_while_nothing_is_heard_and_ends_with_a_list(client: ApiClient) -> None:
    now_s = 100.0
    async with running(client, clock=lambda: now_s) as (cache, _):
        assert cache.age_s(100.0) == cache.listed_age_s(100.0) == 0.0
        assert cache.age_s(160.0) == cache.listed_age_s(160.0) == 60.0


async def test_an_api_server_that_was_away_is_found_again() -> None:
    async with fake_kube() as first:
        port = int(first.url.rsplit(":", 1)[1])
        first.storage.create(COLLECTION, pod("before"))
        async with ApiClient(Access(first.url)) as client, running(client) as (cache, seen):
            await until(lambda: first.watches == 1)
            first.cut_connections()
            await first.stop()
            await until(lambda: cache.trouble != "")
            assert len(cache) == 1  # what is known stays
            async with fake_kube(port) as second:
                second.storage.version = first.storage.version + 100
                second.storage.create(COLLECTION, pod("after"))
                await until(lambda: len(seen.changes) == 3)
                assert seen.changes[1:] == [("DELETED", "before"), ("ADDED", "after")]


async def test_changes_can_be_iterated(fake: FakeKube, client: ApiClient) -> None:
    async with running(client) as (cache, _):
        changes = cache.changes()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        fake.storage.create(COLLECTION, pod("a"))
        assert (await first).key == Key("ns", "a")
        await changes.aclose()


async def test_the_answer_to_a_write_is_seen_before_its_event(fake: FakeKube, client: ApiClient) -> None:
    async with running(client) as (cache, seen):
        await until(lambda: fake.watches == 1)
        with lost_events(fake):
            made = await client.create(PODS, pod("a"), manager="test")
        cache.learn(made)
        assert seen.changes == [("ADDED", "a")]
        # The event comes after all, and says nothing new.
        fake.cut_connections()
        await until(lambda: cache.counts.lists == 2)
        assert seen.changes == [("ADDED", "a")]
