"""Calls and their errors, on a real connection."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fakekube.server import FakeKube
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient, Call
from pointsman.kube.errors import (
    AccessError,
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnreachableError,
)
from pointsman.kube.resource import CONFIG_MAPS, ENGINE_PROFILES, INSTANCE_POOLS, PODS, Resource


def config_map(**data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "it", "namespace": "ns"},
        "data": data,
    }


@pytest.mark.parametrize(
    ("resource", "where", "path"),
    [
        (PODS, (), "/api/v1/pods"),
        (PODS, ("ns",), "/api/v1/namespaces/ns/pods"),
        (PODS, ("ns", "a"), "/api/v1/namespaces/ns/pods/a"),
        (
            INSTANCE_POOLS,
            ("ns", "a", "status"),
            "/apis/pointsman.io/v1alpha1/namespaces/ns/instancepools/a/status",
        ),
        (ENGINE_PROFILES, ("ns", "a"), "/apis/pointsman.io/v1alpha1/engineprofiles/a"),
        (PODS, ("ns", "../secrets"), "/api/v1/namespaces/ns/pods/..%2Fsecrets"),
    ],
)
def test_paths(resource: Resource, where: tuple[str, ...], path: str) -> None:
    assert resource.path(*where) == path


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, ExpiredError),
        (422, InvalidError),
        (500, ApiError),
    ],
)
async def test_each_refusal_has_its_kind_and_says_what_was_asked(
    fake: FakeKube, client: ApiClient, status: int, kind: type[ApiError]
) -> None:
    fake.faults.failures = [status]
    with pytest.raises(kind, match="get /api/v1/namespaces/ns/pods/a: this failure was asked for") as caught:
        await client.get(PODS, "a", "ns")
    assert caught.value.status == status


async def test_nobody_there(unused_tcp_port: int) -> None:
    async with ApiClient(Access(f"http://127.0.0.1:{unused_tcp_port}")) as client:
        with pytest.raises(UnreachableError, match="get /api/v1/namespaces/ns/pods/a: "):
            await client.get(PODS, "a", "ns")


async def test_what_is_no_api_server_is_told_so() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ApiClient(Access(f"http://127.0.0.1:{runner.addresses[0][1]}")) as client:
            with pytest.raises(UnreachableError, match="is this an API server"):
                await client.list(PODS)
            with pytest.raises(KubeError, match="the watch ended within an event"):
                await anext(client.watch(PODS, version="1", timeout_s=5, idle_s=5))
    finally:
        await runner.cleanup()


async def test_apply_owns_what_it_says_and_lets_go_of_what_it_no_longer_says(
    fake: FakeKube, client: ApiClient
) -> None:
    await client.apply(CONFIG_MAPS, config_map(a="1", b="1"), manager="pointsman")
    await client.merge(CONFIG_MAPS, {"data": {"c": "theirs"}}, "it", "ns", manager="someone")
    after = await client.apply(CONFIG_MAPS, config_map(a="2"), manager="pointsman")
    assert after["data"] == {"a": "2", "c": "theirs"}


async def test_without_force_anothers_field_is_a_conflict(client: ApiClient) -> None:
    await client.apply(CONFIG_MAPS, config_map(a="1"), manager="first")
    with pytest.raises(ConflictError):
        await client.apply(CONFIG_MAPS, config_map(a="2"), manager="second", force=False)
    assert (await client.apply(CONFIG_MAPS, config_map(a="2"), manager="second"))["data"] == {"a": "2"}


async def test_only_the_object_with_this_uid_is_deleted(fake: FakeKube, client: ApiClient) -> None:
    await client.create(CONFIG_MAPS, config_map(), manager="pointsman")
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAPS, "it", "ns", uid="of a predecessor")
    live = await client.get(CONFIG_MAPS, "it", "ns")
    await client.delete(CONFIG_MAPS, "it", "ns", uid=live["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await client.get(CONFIG_MAPS, "it", "ns")


async def test_only_the_object_with_this_uid_is_patched(client: ApiClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map(a="1"), manager="pointsman")
    patch = {"data": {"a": "2"}}
    with pytest.raises(ConflictError):
        await client.merge(CONFIG_MAPS, patch, "it", "ns", manager="pointsman", uid="of a predecessor")
    after = await client.merge(
        CONFIG_MAPS, patch, "it", "ns", manager="pointsman", uid=made["metadata"]["uid"]
    )
    assert after["data"] == {"a": "2"}


async def test_an_update_of_another_version_is_a_conflict(client: ApiClient) -> None:
    made = dict(await client.create(CONFIG_MAPS, config_map(a="1"), manager="pointsman"))
    await client.update(CONFIG_MAPS, made | {"data": {"a": "2"}}, manager="pointsman")
    with pytest.raises(ConflictError):
        await client.update(CONFIG_MAPS, made | {"data": {"a": "3"}}, manager="pointsman")


async def test_a_token_file_is_read_again_when_it_is_old_or_refused(fake: FakeKube, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    now_s = 0.0
    async with ApiClient(Access(fake.url, token_file=file), clock=lambda: now_s) as client:
        await client.list(PODS)
        file.write_text("second\n")
        await client.list(PODS)
        now_s = 61.0
        await client.list(PODS)
        file.write_text("third\n")
        fake.faults.failures = [401]
        with pytest.raises(ForbiddenError):
            await client.list(PODS)
        await client.list(PODS)
        assert [request.authorization for request in fake.requests] == [
            "Bearer first",
            "Bearer first",
            "Bearer second",
            "Bearer second",
            "Bearer third",
        ]
        file.unlink()
        now_s = 200.0
        with pytest.raises(AccessError, match="the token cannot be read"):
            await client.list(PODS)


async def test_every_call_is_reported_with_its_verb(fake: FakeKube) -> None:
    calls: list[Call] = []
    async with ApiClient(Access(fake.url), on_call=calls.append) as client:
        await client.apply(CONFIG_MAPS, config_map(), manager="pointsman")
        await client.list(CONFIG_MAPS)
        with pytest.raises(NotFoundError):
            await client.get(CONFIG_MAPS, "other", "ns")
        await client.delete(CONFIG_MAPS, "it", "ns")
    assert [(call.verb, call.resource.plural, call.status) for call in calls] == [
        ("patch", "configmaps", 200),
        ("list", "configmaps", 200),
        ("get", "configmaps", 404),
        ("delete", "configmaps", 200),
    ]


async def test_events_larger_than_a_read_come_whole(fake: FakeKube, client: ApiClient) -> None:
    version = (await client.list(CONFIG_MAPS)).version
    fake.storage.create("/api/v1/configmaps", config_map(large="x" * 1_000_000))
    events = client.watch(CONFIG_MAPS, version=version, timeout_s=5, idle_s=5)
    event = await anext(events)
    await events.aclose()
    assert (event.type, len(event.object["data"]["large"])) == ("ADDED", 1_000_000)
