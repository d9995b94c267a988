"""Finding the API server and its credentials: pods, kubeconfigs, and what is wrong with them."""

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from pointsman.kube.access import find_access, in_cluster_access, kubeconfig_access
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import AccessError, UnreachableError
from pointsman.kube.resource import PODS


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any], **context: str) -> Path:
    file = folder / "config"
    document = {
        "current-context": "it",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u", **context}}],
    }
    file.write_text(json.dumps(document))
    return file


def test_a_pod_uses_its_service_account(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "namespace").write_text("serving\n")
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster_access(environment, tmp_path)
    assert (access.server, access.namespace, access.token_file) == (
        "https://10.0.0.1:6443",
        "serving",
        tmp_path / "token",
    )
    six = in_cluster_access({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert six.server == "https://[fd00::1]:443"


def test_a_pod_without_its_account_is_told_what_is_off(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="automountServiceAccountToken"):
        in_cluster_access({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


def test_kubeconfig_variable_then_pod_then_home(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, {"server": "http://one:1/"}, {"token": "t"}, namespace="mine")
    access = find_access({"KUBECONFIG": str(file)}, home=Path("/nowhere"))
    assert (access.server, access.namespace, access.token) == ("http://one:1", "mine", "t")
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    file.rename(home / ".kube" / "config")
    assert find_access({}, home=home).server == "http://one:1"
    with pytest.raises(AccessError, match="set KUBECONFIG"):
        find_access({}, home=tmp_path / "empty")


def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, {"server": "http://one:1"}, {"token": "very-secret"})
    assert "very-secret" not in repr(kubeconfig_access(file))


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({}, {}, "has no server"),
        ({"server": "http://a"}, {"exec": {"command": "aws"}}, "kubectl create token"),
        ({"server": "https://a", "certificate-authority": "missing.crt"}, {}, r"missing\.crt"),
        ({"server": "https://a", "certificate-authority-data": "bm8="}, {}, "config"),
        (
            {"server": "https://a"},
            {"client-certificate-data": base64.b64encode(b"x").decode()},
            "without its client-key",
        ),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccessError, match=message):
        kubeconfig_access(kubeconfig(tmp_path, cluster, user))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "current-context: gone"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(AccessError, match=str(file)):
        kubeconfig_access(file)


async def test_client_certificates_are_shown_and_the_server_is_verified(
    tmp_path: Path, authority: trustme.CA
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})

    app = web.Application()
    app.router.add_get("/api/v1/pods", nothing)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server = f"https://127.0.0.1:{runner.addresses[0][1]}"
    mine = authority.issue_cert("admin@example.org")
    user = {
        "client-certificate-data": base64.b64encode(mine.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(mine.private_key_pem.bytes()).decode(),
    }
    right = {
        "server": server,
        "certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode(),
    }
    try:
        async with ApiClient(kubeconfig_access(kubeconfig(tmp_path, right, user))) as client:
            assert (await client.list(PODS)).version == "7"
        async with ApiClient(kubeconfig_access(kubeconfig(tmp_path, {"server": server}, user))) as client:
            with pytest.raises(UnreachableError, match="certificate"):
                await client.list(PODS)
        careless = {"server": server, "insecure-skip-tls-verify": True}
        async with ApiClient(kubeconfig_access(kubeconfig(tmp_path, careless, user))) as client:
            assert (await client.list(PODS)).version == "7"
    finally:
        await runner.cleanup()
