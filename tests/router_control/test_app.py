"""The whole router on loopback: started, asked, reloaded, drained."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from pointsman.api.config_file import ConfigError
from pointsman.api.router_config import load_router_config
from pointsman.router.app import RouterApp

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
CHAT = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no certificate, and takes no time to make."""
JSON = {"content-type": "application/json"}


class Router:
    """A started router, its file, and clients of both ports."""

    def __init__(
        self, app: RouterApp, file: Path, client: httpx.AsyncClient, admin: httpx.AsyncClient
    ) -> None:
        self.app = app
        self.file = file
        self.client = client
        self.admin = admin

    def write(self, **changes: Any) -> None:
        content = yaml.safe_load(self.file.read_text())
        self.file.write_text(yaml.safe_dump(content | changes))

    async def instances(self) -> dict[str, dict[str, Any]]:
        answer = await self.admin.get("/admin/instances")
        return {instance["url"]: instance for instance in answer.json()["instances"]}


Started = Callable[..., Awaitable[Router]]


@pytest.fixture
async def start(tmp_path: Path, engine: Any) -> AsyncIterator[Started]:
    """Starts a router in front of the fake engine, with whatever else is configured."""
    async with AsyncExitStack() as stack:

        async def started(**sections: Any) -> Router:
            file = tmp_path / "router.yaml"
            config = {
                "models": [{"name": "llama", "instances": [{"url": engine.url}]}],
                "listen": {"port": 0},
                "admin": {"port": 0},
                "health": {"interval_s": 0.05},
                "drain_grace_s": 5,
            }
            file.write_text(yaml.safe_dump(config | sections))
            app = RouterApp(load_router_config(file), file)
            stack.push_async_callback(app.stop)
            await app.start()
            public = httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.public_port}", verify=NOBODY)
            admin = httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.admin_port}", verify=NOBODY)
            await stack.enter_async_context(public)
            await stack.enter_async_context(admin)
            return Router(app, file, public, admin)

        yield started


@asynccontextmanager
async def open_stream(router: Router, engine: Any) -> AsyncIterator[AsyncIterator[str]]:
    """A stream that has brought its first token."""
    async with router.client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        assert '"Hi"' in await anext(lines)
        yield lines


async def test_it_serves_and_shows_what_it_did(start: Started, engine: Any) -> None:
    router = await start()
    engine.finish.set()
    answer = await router.client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (await router.admin.get("/health")).text == "ok\n"
    assert (await router.admin.get("/ready")).status_code == 200
    metrics = (await router.admin.get("/metrics")).text
    assert 'pointsman_requests_total{code="200",model="llama",reason=""} 1.0' in metrics
    assert f'pointsman_instance_available{{instance="{engine.url}"}} 1.0' in metrics
    assert 'pointsman_model_available_instances{model="llama"} 1.0' in metrics
    assert f'pointsman_instance_breaker{{instance="{engine.url}",state="closed"}} 1.0' in metrics
    assert f'pointsman_engine_running{{instance="{engine.url}"}} 1.0' in metrics
    assert "pointsman_engine_waiting{" not in metrics  # the engine does not say, and that is not zero
    described = (await router.instances())[engine.url]
    assert (described["available"], described["epoch"], described["role"]) == (True, "1.0", "mixed")
    assert (await router.admin.get("/admin/view")).json()["in_flight"] == 0


async def test_it_starts_without_its_engines(start: Started, engine: Any, eventually: Eventually) -> None:
    await engine.close()
    router = await start(queue={"max_wait_for_instance_s": 0})
    assert (
        'pointsman_model_available_instances{model="llama"} 0.0' in (await router.admin.get("/metrics")).text
    )
    answer = await router.client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 503
    assert answer.headers["x-pointsman-reason"] == "no_instance"
    await engine.listen()
    engine.finish.set()
    member = router.app._fleet.member(engine.url)
    assert member is not None
    await eventually(lambda: member.available)
    assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_requests_wait_for_an_engine_that_comes_back(
    start: Started, engine: Any, eventually: Eventually
) -> None:
    await engine.close()
    router = await start(queue={"max_wait_for_instance_s": 60})
    asked = asyncio.create_task(router.client.post("/v1/chat/completions", json=CHAT))
    await eventually(lambda: router.app.view()["waiting"])
    engine.finish.set()
    await engine.listen()
    assert (await asked).status_code == 200


async def test_a_body_nested_without_end_is_refused(start: Started, engine: Any) -> None:
    router = await start(models=[{"name": "llama", "aliases": ["gpt"], "instances": [{"url": engine.url}]}])
    nested = (
        b'{"model":"gpt","messages":[{"role":"user","content":"a"}],"x":' + b"[" * 500 + b"]" * 500 + b"}"
    )
    answer = await router.client.post("/v1/chat/completions", content=nested, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body is nested more than 254 deep"


async def test_a_prompt_that_is_surely_too_long_is_refused(start: Started, engine: Any) -> None:
    instances = [{"url": engine.url}]
    router = await start(models=[{"name": "llama", "context_tokens": 100, "instances": instances}])
    engine.finish.set()
    for ids, status in ((100, 404), (101, 400)):  # the fake engine has no completions
        body = {"model": "llama", "prompt": list(range(ids))}
        answer = await router.client.post("/v1/completions", json=body)
        assert answer.status_code == status
    assert answer.json()["error"]["message"] == "the prompt has more tokens than the 100 that llama can take"


async def test_nobody_waits_beyond_the_deadline(start: Started, engine: Any) -> None:
    router = await start(models=[{"name": "llama", "instances": [{"url": engine.url, "max_running": 1}]}])
    async with open_stream(router, engine) as lines:
        late = await router.client.post("/v1/chat/completions", json=CHAT, headers={"x-deadline-ms": "50"})
        assert late.headers["x-pointsman-reason"] == "deadline"
        assert "retry-after" in late.headers
        engine.finish.set()
        assert "data: [DONE]" in [line async for line in lines]


async def test_a_new_configuration_drops_no_stream(start: Started, engine: Any) -> None:
    router = await start()
    async with open_stream(router, engine) as lines:
        router.write(
            models=[
                {"name": "llama", "aliases": ["gpt"], "instances": [{"url": engine.url, "max_running": 9}]}
            ]
        )
        assert (await router.admin.post("/admin/reload", headers=JSON)).json() == {"reloaded": True}
        engine.finish.set()
        assert "data: [DONE]" in [line async for line in lines]
    listed = (await router.client.get("/v1/models")).json()["data"]
    assert {model["id"] for model in listed} == {"llama", "gpt"}


async def test_a_removed_instance_finishes_its_streams_and_leaves(
    start: Started, engine: Any, eventually: Eventually
) -> None:
    router = await start(queue={"max_wait_for_instance_s": 0})
    async with open_stream(router, engine) as lines:
        router.write(models=[{"name": "llama", "instances": [{"url": "http://127.0.0.1:1"}]}])
        assert await router.app.reload() == ""
        assert (await router.instances())[engine.url]["draining"]
        assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 503
        engine.finish.set()
        assert "data: [DONE]" in [line async for line in lines]
    await eventually(lambda: router.app._fleet.member(engine.url) is None)


async def test_a_bad_new_configuration_is_refused_and_the_old_one_stays(start: Started, engine: Any) -> None:
    router = await start()
    engine.finish.set()
    router.write(limts={})
    refused = await router.admin.post("/admin/reload", headers=JSON)
    assert refused.status_code == 422
    assert "limts: unknown field; did you mean 'limits'?" in refused.json()["error"]
    assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    metrics = (await router.admin.get("/metrics")).text
    assert 'pointsman_config_reloads_total{result="refused"} 1.0' in metrics


async def test_a_changed_file_is_noticed(start: Started, eventually: Eventually) -> None:
    router = await start()
    router.write(models=[{"name": "other", "instances": [{"url": "http://127.0.0.1:1"}]}])
    await eventually(lambda: router.app.config()["models"][0]["name"] == "other")
    assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 404


async def test_certificates_that_are_none_are_refused_before_anything_changes(
    start: Started, engine: Any, tmp_path: Path
) -> None:
    router = await start()
    (tmp_path / "ca.pem").write_text("no certificate")
    models = [{"name": "llama", "instances": [{"url": engine.url}, {"url": "https://127.0.0.1:1"}]}]
    router.write(models=models, engine_tls={"ca": "ca.pem"})
    assert "engine_tls.ca: " in await router.app.reload()
    assert list(await router.instances()) == [engine.url]


async def test_draining_lets_streams_finish(start: Started, engine: Any, eventually: Eventually) -> None:
    router = await start()
    async with open_stream(router, engine) as lines:
        draining = asyncio.create_task(router.app.drain())
        await eventually(router.app.ready)
        not_ready = await router.admin.get("/ready")
        assert (not_ready.status_code, not_ready.text) == (503, "draining\n")
        assert not draining.done()
        engine.finish.set()
        assert "data: [DONE]" in [line async for line in lines]
    await draining
    with pytest.raises(httpx.ConnectError):
        await router.client.post("/v1/chat/completions", json=CHAT)


async def test_the_grace_time_ends_what_does_not(start: Started, engine: Any) -> None:
    router = await start(drain_grace_s=0.05)
    async with open_stream(router, engine) as lines:
        await router.app.drain()
        with pytest.raises(httpx.RemoteProtocolError):
            [line async for line in lines]


async def test_an_instance_can_be_drained_and_taken_up_again(start: Started, engine: Any) -> None:
    router = await start(queue={"max_wait_for_instance_s": 0})
    engine.finish.set()
    for action, status in (("drain", 503), ("resume", 200)):
        answer = await router.admin.post(f"/admin/instances/{action}", json={"url": engine.url})
        assert answer.status_code == 200
        assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == status
    unknown = await router.admin.post("/admin/instances/drain", json={"url": "http://nowhere"})
    assert unknown.status_code == 404


async def test_the_configuration_is_shown_without_secrets(start: Started) -> None:
    tenants = [{"name": "a", "key_hashes": ["sha256:" + "0" * 64]}]
    router = await start(tenants=tenants)
    text = (await router.admin.get("/admin/config")).text
    assert '"key_hashes":1' in text
    assert "0" * 64 not in text


async def test_the_admin_token_guards_what_steers_and_nothing_else(start: Started, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    router = await start(admin={"port": 0, "token_file": "token"})
    for path in ("/health", "/ready", "/metrics"):
        assert (await router.admin.get(path)).status_code == 200
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
        assert (await router.admin.get("/admin/instances", headers=headers)).status_code == 401
        assert (await router.admin.get("/admin/nothing", headers=headers)).status_code == 401
    right = {"authorization": "Bearer s3cret"}
    assert (await router.admin.get("/admin/instances", headers=right)).status_code == 200


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"admin": {"port": 0, "token_file": "secret"}}, "admin.token_file"),
        ({"prompts": {"hash_key_file": "secret"}}, "prompts.hash_key_file"),
    ],
)
async def test_an_empty_secret_is_none(
    start: Started, tmp_path: Path, sections: dict[str, Any], path: str
) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match=rf"{re.escape(path)}: .*secret is empty"):
        await start(**sections)


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("GET", "/", b"", {}, 404),
        ("POST", "/health", b"", {}, 405),
        ("HEAD", "/health", b"", {}, 200),
        ("PUT", "/admin/log-level", b'{"level":"loud"}', JSON, 422),
        ("PUT", "/admin/log-level", b"{", JSON, 400),
        ("PUT", "/admin/log-level", b"[]", JSON, 422),
        ("PUT", "/admin/log-level", b'{"level":"info"}', {}, 415),
        ("PUT", "/admin/log-level", b'{"level":"info"}', JSON, 200),
        ("PUT", "/admin/log-level", b" " * 100_000, JSON, 413),
        ("POST", "/admin/reload", b'{"file":"/etc/passwd"}', JSON, 422),
    ],
)
async def test_the_admin_port_says_what_it_takes(
    start: Started, method: str, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    router = await start()
    answer = await router.admin.request(method, path, content=content, headers=headers)
    assert answer.status_code == status


Issue = Callable[[], None]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """Writes a new authority to ca.pem, and a certificate of its and the key to cert.pem and key.pem."""

    def issued() -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")

    return issued


async def test_clients_may_be_served_over_tls_and_certificates_renewed(
    start: Started, engine: Any, tmp_path: Path, issue: Issue
) -> None:
    issue()
    tls = {"certificate": "cert.pem", "key": "key.pem"}
    router = await start(listen={"port": 0, "tls": tls})
    engine.finish.set()
    url = f"https://127.0.0.1:{router.app.public_port}"
    for _ in range(2):
        issue()
        assert await router.app.reload() == ""
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        async with httpx.AsyncClient(base_url=url, verify=context) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_clients_may_have_to_show_a_certificate(
    start: Started, engine: Any, tmp_path: Path, issue: Issue
) -> None:
    issue()
    tls = {"certificate": "cert.pem", "key": "key.pem", "client_ca": "ca.pem"}
    router = await start(listen={"port": 0, "tls": tls})
    engine.finish.set()
    url = f"https://127.0.0.1:{router.app.public_port}"
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    async with httpx.AsyncClient(base_url=url, verify=context) as client:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.post("/v1/chat/completions", json=CHAT)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with httpx.AsyncClient(base_url=url, verify=context) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_engines_may_be_behind_mutual_tls(
    start: Started, engine: Any, tmp_path: Path, issue: Issue
) -> None:
    issue()
    await engine.close()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    await engine.listen(context)
    engine.finish.set()
    models = [{"name": "llama", "instances": [{"url": engine.url.replace("http:", "https:")}]}]
    pair = {"certificate": "cert.pem", "key": "key.pem"}
    router = await start(models=models, engine_tls={"ca": "ca.pem", **pair})
    assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_an_engine_whose_certificate_is_not_trusted_is_not_used(
    start: Started, engine: Any, tmp_path: Path, issue: Issue
) -> None:
    issue()
    await engine.close()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    await engine.listen(context)
    issue()
    url = engine.url.replace("http:", "https:")
    router = await start(
        models=[{"name": "llama", "instances": [{"url": url}]}],
        engine_tls={"ca": "ca.pem"},
        queue={"max_wait_for_instance_s": 0},
    )
    assert (await router.client.post("/v1/chat/completions", json=CHAT)).status_code == 503
    assert "certificate" in (await router.instances())[url]["why"].lower()


async def test_a_port_that_is_taken_is_an_error(start: Started, engine: Any) -> None:
    router = await start()
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await start(listen={"port": router.app.public_port})


async def test_a_server_certificate_that_is_none_is_named(start: Started, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"listen\.tls: "):
        await start(listen={"port": 0, "tls": {"certificate": "x.pem", "key": "x.pem"}})


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_starting_and_stopping_leaves_nothing(start: Started) -> None:
    before = asyncio.all_tasks()
    descriptors = open_files()
    router = await start()
    await router.admin.get("/health")
    await router.admin.aclose()
    await router.client.aclose()
    await router.app.stop()
    assert asyncio.all_tasks() == before
    assert open_files() <= descriptors
