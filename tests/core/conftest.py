"""A cluster in a line: `make_cluster("prefill", "decode", "mixed:2")` — role, and the most it may run at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pointsman.core.cluster import Cluster
from pointsman.core.events import InstanceHealth, InstanceSeen
from pointsman.core.instances import Capabilities, Instance, InstanceId, Role
from pointsman.core.requests import RequestView

MakeCluster = Callable[..., Cluster]
MakeRequest = Callable[..., RequestView]


@pytest.fixture
def make_cluster() -> MakeCluster:
    def make(
        *kinds: str, models: tuple[str, ...] = ("m",), capabilities: Capabilities | None = None
    ) -> Cluster:
        cluster = Cluster()
        for number, kind in enumerate(kinds):
            role, _, cap = kind.partition(":")
            instance = Instance(
                InstanceId(f"http://{number}", "e"),
                models,
                Role(role),
                capabilities=capabilities or Capabilities(),
                max_running=int(cap or 0),
            )
            cluster.apply(InstanceSeen(instance))
            cluster.apply(InstanceHealth(instance.id, available=True))
        return cluster

    return make


@pytest.fixture
def make_request() -> MakeRequest:
    base = RequestView(request_id="r", model="m", prompt_tokens=1000, arrived_s=0.0)

    def make(request_id: str = "r", **fields: object) -> RequestView:
        return replace(base, request_id=request_id, **fields)  # type: ignore[arg-type]

    return make
