"""Two replicas: one works, one stands by, and when the first is killed the second goes on."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.cluster.cluster import eventually
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.operator import HOME, LEASE, Nursery, Operator, direct_kubeconfig, grant, nursery
from e2e.cluster.operating.scenario import MANAGER, OURS, model_service
from pointsman.api.crd.definitions import definitions
from pointsman.kube.access import kubeconfig_access
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import KubeError
from pointsman.kube.resource import DEPLOYMENTS, LEASES, MODEL_SERVICES

NAMESPACE = "default"


@pytest.fixture
async def started(control_plane: LocalCluster) -> AsyncIterator[Nursery]:
    control_plane.apply(*definitions())
    eventually(
        lambda: control_plane.run(["kubectl", "get", "pointsman"], check=False).returncode == 0,
        "the custom resources are not served",
    )
    with control_plane.sandbox.network():
        async with nursery() as made:
            yield made


async def instances(admin: ApiClient) -> int:
    return len((await admin.list(DEPLOYMENTS, NAMESPACE, selector=OURS)).items)


async def holder(admin: ApiClient) -> str:
    try:
        return str((await admin.get(LEASES, LEASE, HOME))["spec"]["holderIdentity"])
    except KubeError:
        return ""


async def test_a_killed_leader_is_replaced(
    control_plane: LocalCluster, started: Nursery, tmp_path: Path
) -> None:
    access = kubeconfig_access(Path(control_plane.environment["KUBECONFIG"]))
    kubeconfig = direct_kubeconfig(tmp_path / "kubeconfig", control_plane, grant(control_plane, [NAMESPACE]))
    one, two = (
        Operator(
            started, kubeconfig, tmp_path, namespaces=[NAMESPACE], port=0, extra=[f"--identity={identity}"]
        )
        for identity in ("one", "two")
    )
    async with ApiClient(access) as admin:
        await one.start()
        while await holder(admin) != "one":
            await asyncio.sleep(0.1)
        await two.start()
        await admin.apply(MODEL_SERVICES, model_service(NAMESPACE), manager=MANAGER)
        while await instances(admin) < 3:
            await asyncio.sleep(0.1)
        assert await holder(admin) == "one"
        await one.kill()
        killed_s = time.monotonic()
        await admin.apply(MODEL_SERVICES, model_service(NAMESPACE, decode=3), manager=MANAGER)
        while await instances(admin) < 4:
            await asyncio.sleep(0.1)
        taken_s = time.monotonic() - killed_s
        print(f"\nthe standby acted {taken_s:.1f} s after the kill", file=sys.stderr)  # noqa: T201 - a figure
        assert await holder(admin) == "two"
        # In order it goes faster, and leaves nothing held.
        assert await two.stop() == 0
        assert await holder(admin) == ""
