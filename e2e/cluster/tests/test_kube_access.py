"""`pointsman.kube` on a real API server: what the fake one of its unit tests stands for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import network
from e2e.cluster.local import LocalCluster
from pointsman.kube.access import kubeconfig_access
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApiClient
from pointsman.kube.election import Election, Terms
from pointsman.kube.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from pointsman.kube.leader import Leader
from pointsman.kube.pacing import Timing
from pointsman.kube.recording import EventRecorder
from pointsman.kube.resource import CONFIG_MAPS, LEADER_WORKER_SETS, LEASES, PODS, Key, Object
from pointsman.kube.store import Change

NAMESPACE = "default"


@pytest.fixture
async def client(control_plane: LocalCluster) -> AsyncIterator[ApiClient]:
    # The API server is in a network of its own: sockets made in there reach it from here.
    with control_plane.sandbox.network():
        async with ApiClient(kubeconfig_access(Path(control_plane.environment["KUBECONFIG"]))) as made:
            yield made


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"test": "kube"}},
        "data": data,
    }


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def test_a_list_in_pages_is_whole_and_at_one_version(client: ApiClient) -> None:
    for number in range(7):
        await client.create(CONFIG_MAPS, config_map(f"page-{number}"), manager="test")
    listing = await client.list(CONFIG_MAPS, NAMESPACE, selector="test=kube", page=3)
    assert sorted(item["metadata"]["name"] for item in listing.items) == [f"page-{n}" for n in range(7)]
    assert all(item["kind"] == "ConfigMap" for item in listing.items)
    assert listing.version.isdecimal()


async def test_a_cache_follows_and_the_watch_ends_when_asked(client: ApiClient) -> None:
    changes: list[Change[Object]] = []
    timing = Timing(relist_s=2, idle_s=20, first_retry_s=0.05, last_retry_s=0.5, healthy_s=0.1)
    cache = Cache(
        client,
        CONFIG_MAPS,
        dict,
        namespaces=[NAMESPACE],
        selector="of=cache",
        on_change=changes.append,
        timing=timing,
    )
    task = asyncio.create_task(cache.run())
    await cache.synced()
    mine = config_map("followed", a="1")
    mine["metadata"]["labels"] = {"of": "cache"}
    cache.learn(await client.apply(CONFIG_MAPS, mine, manager="test"))
    cache.learn(await client.apply(CONFIG_MAPS, {**mine, "data": {"a": "2"}}, manager="test"))
    await until(lambda: cache.counts.lists >= 3)  # two timed lists found nothing new to tell
    assert cache.counts.invented == 0
    assert cache.counts.errors == 0
    await client.delete(CONFIG_MAPS, "followed", NAMESPACE)
    await until(lambda: len(cache) == 0)
    assert [change.kind.value for change in changes] == ["ADDED", "MODIFIED", "DELETED"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_losing_the_label_is_a_deletion(client: ApiClient) -> None:
    cache = Cache(client, CONFIG_MAPS, dict, selector="stays=here")
    task = asyncio.create_task(cache.run())
    await cache.synced()
    mine = config_map("labelled")
    mine["metadata"]["labels"] = {"stays": "here"}
    await client.create(CONFIG_MAPS, mine, manager="test")
    await until(lambda: len(cache) == 1)
    await client.merge(
        CONFIG_MAPS, {"metadata": {"labels": {"stays": None}}}, "labelled", NAMESPACE, manager="test"
    )
    await until(lambda: len(cache) == 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_kind_that_is_not_installed_is_empty_where_optional(client: ApiClient) -> None:
    with pytest.raises(NotFoundError):
        await client.list(LEADER_WORKER_SETS)
    cache = Cache(client, LEADER_WORKER_SETS, dict, optional=True)
    task = asyncio.create_task(cache.run())
    await cache.synced()
    assert len(cache) == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_apply_takes_back_what_it_owned_and_leaves_others_fields(client: ApiClient) -> None:
    await client.apply(CONFIG_MAPS, config_map("applied", a="1", b="1"), manager="pointsman")
    await client.merge(CONFIG_MAPS, {"data": {"c": "theirs"}}, "applied", NAMESPACE, manager="someone")
    after = await client.apply(CONFIG_MAPS, config_map("applied", a="2"), manager="pointsman")
    assert after["data"] == {"a": "2", "c": "theirs"}
    again = await client.apply(CONFIG_MAPS, config_map("applied", a="2"), manager="pointsman")
    assert again["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    with pytest.raises(ConflictError, match="someone"):
        await client.apply(CONFIG_MAPS, config_map("applied", c="ours"), manager="pointsman", force=False)


async def test_apply_to_the_successor_of_an_object_is_refused(client: ApiClient) -> None:
    first = await client.create(CONFIG_MAPS, config_map("reborn"), manager="test")
    await client.delete(CONFIG_MAPS, "reborn", NAMESPACE)
    await client.create(CONFIG_MAPS, config_map("reborn"), manager="test")
    stale = config_map("reborn", a="1")
    stale["metadata"]["uid"] = first["metadata"]["uid"]
    with pytest.raises(ConflictError):
        await client.apply(CONFIG_MAPS, stale, manager="pointsman")
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAPS, "reborn", NAMESPACE, uid=first["metadata"]["uid"])
    patch = {"data": {"a": "1"}}
    with pytest.raises(ConflictError):
        await client.merge(
            CONFIG_MAPS, patch, "reborn", NAMESPACE, manager="pointsman", uid=first["metadata"]["uid"]
        )


async def test_what_is_not_right_is_refused_by_name(client: ApiClient) -> None:
    with pytest.raises(InvalidError, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, config_map("Not A Name"), manager="test")


async def test_events_are_seen_by_describe(control_plane: LocalCluster, client: ApiClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map("described"), manager="test")
    about = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "described",
        "namespace": NAMESPACE,
        "uid": made["metadata"]["uid"],
    }
    for _ in range(2):
        recorder = EventRecorder(client, controller="pointsman.io/controller", instance="test")
        await recorder.record(about, "Warning", "Broken", "it is broken", "Reconcile")
    told = await asyncio.to_thread(
        control_plane.kubectl, "get", "events", "--field-selector=involvedObject.name=described", "-o", "json"
    )
    (event,) = json.loads(told)["items"]
    assert (event["reason"], event["message"], event["series"]["count"]) == ("Broken", "it is broken", 2)


async def test_one_leads_and_another_takes_over(client: ApiClient) -> None:
    key = Key(NAMESPACE, "election")
    working: list[str] = []

    def candidate(name: str) -> Leader:
        async def work() -> None:
            working.append(name)
            await asyncio.Event().wait()

        terms = Terms(lease_s=2, give_up_s=1.5, retry_s=0.3)
        return Leader(client, key, Election(key, name, terms), work, manager="test")

    first = asyncio.create_task(candidate("first").run())
    await until(lambda: working == ["first"])
    second = asyncio.create_task(candidate("second").run())
    await asyncio.sleep(3)
    assert working == ["first"]
    first.cancel()
    await until(lambda: working == ["first", "second"])
    assert (await client.get(LEASES, "election", NAMESPACE))["spec"]["leaseTransitions"] == 1
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_what_is_forbidden_says_who_and_what(control_plane: LocalCluster) -> None:
    await asyncio.to_thread(control_plane.kubectl, "create", "serviceaccount", "nobody")
    token = (await asyncio.to_thread(control_plane.kubectl, "create", "token", "nobody")).strip()
    access = kubeconfig_access(Path(control_plane.environment["KUBECONFIG"]))
    with control_plane.sandbox.network():
        async with ApiClient(type(access)(access.server, tls=access.tls, token=token)) as client:
            with pytest.raises(ForbiddenError, match="system:serviceaccount:default:nobody"):
                await client.list(PODS)
    assert access.server.endswith(f":{network.API_SERVER_PORT}")
