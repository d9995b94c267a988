"""Create, scale, roll, delete: what the operator does for one ModelService, and how things must be after each step."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pointsman.api.resources import names
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import KubeError, NotFoundError
from pointsman.kube.resource import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    INSTANCE_POOLS,
    MODEL_SERVICES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    Object,
    Resource,
)

SERVICE = "demo"
MANAGER = "e2e"
PATIENCE_S = 300.0
QUIET_S = 1.5
OURS = f"{names.MANAGED_BY}={names.MANAGER}"
OWNED = (INSTANCE_POOLS, DEPLOYMENTS, CONTROLLER_REVISIONS, POD_DISRUPTION_BUDGETS, CONFIG_MAPS)


def model_service(
    namespace: str, *, decode: int = 2, args: tuple[str, ...] = (), name: str = SERVICE
) -> dict[str, Any]:
    shape = [{"name": "h100"}]
    return {
        "apiVersion": MODEL_SERVICES.api_version,
        "kind": MODEL_SERVICES.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"name": name, "source": {"hub": {"id": "some/model"}}},
            "engine": {"type": "simulated", "connector": "nixl", "args": list(args)},
            "pools": [
                {"name": "prefill", "role": "prefill", "replicas": 1, "accelerators": shape},
                {"name": "decode", "role": "decode", "replicas": decode, "accelerators": shape},
            ],
        },
    }


class NotConvergedError(Exception):
    """The cluster is not as the ModelService says, in time."""


@dataclass(slots=True)
class World:
    """One namespace, as its user sees it."""

    admin: ApiClient
    namespace: str
    made: set[str] = field(default_factory=set)
    """UIDs of all Deployments there ever were."""

    async def steps(self, after_each: Callable[[str], Awaitable[None]]) -> None:
        """Each step, until all is as it should be. Raises NotConvergedError."""
        for name, service in (
            ("create", model_service(self.namespace)),
            ("scale", model_service(self.namespace, decode=3)),
            ("roll", model_service(self.namespace, decode=3, args=("--max-num-seqs=64",))),
        ):
            await self._apply(name, service)
            await after_each(name)
        await self.delete("Foreground")
        await after_each("delete")

    async def create(self) -> None:
        """Until all is as it should be. Raises NotConvergedError."""
        await self._apply("create", model_service(self.namespace))

    async def delete(self, propagation: Literal["Foreground", "Background"]) -> None:
        """Until nothing is left. Raises NotConvergedError."""
        await self.admin.delete(MODEL_SERVICES, SERVICE, self.namespace, propagation=propagation)
        await self._until("delete", self._left)

    async def _apply(self, step: str, service: Object) -> None:
        await self.admin.apply(MODEL_SERVICES, service, manager=MANAGER)
        await self._until(step, lambda: self._differs(service))

    async def _until(self, step: str, wrong: Callable[[], Awaitable[str]]) -> None:
        async def problem_now() -> str:
            try:
                return await wrong()
            except KubeError as error:  # a busy API server says 429
                return str(error)

        deadline_s = time.monotonic() + PATIENCE_S
        while problem := await problem_now():
            if time.monotonic() > deadline_s:
                raise NotConvergedError(f"{self.namespace}: {step}: after {PATIENCE_S:.0f} s: {problem}")
            await asyncio.sleep(0.1)

    async def _list(self, resource: Resource, selector: str = OURS) -> list[Object]:
        return (await self.admin.list(resource, self.namespace, selector=selector)).items

    async def _differs(self, service: Object) -> str:
        """What is not yet, or not only, as the ModelService says."""
        pools = {pool["metadata"]["name"]: pool for pool in await self._list(INSTANCE_POOLS)}
        wanted = {f"{SERVICE}-{pool['name']}": pool["replicas"] for pool in service["spec"]["pools"]}
        if pools.keys() != wanted.keys():
            return f"pools are {sorted(pools)}"
        workloads = await self._list(DEPLOYMENTS)
        self.made |= {workload["metadata"]["uid"] for workload in workloads}
        pods = await self._list(PODS)
        budgets = {budget["metadata"]["name"] for budget in await self._list(POD_DISRUPTION_BUDGETS)}
        if budgets != wanted.keys():
            return f"disruption budgets are {sorted(budgets)}"
        for name, replicas in wanted.items():
            status = pools[name].get("status", {})
            if pools[name]["spec"]["replicas"] != replicas:
                return f"{name} wants {pools[name]['spec']['replicas']}"
            for count in ("replicas", "readyReplicas", "updatedReplicas"):
                if status.get(count) != replicas:
                    return f"{name} says {count} {status.get(count)}"
            if problem := _instances(name, replicas, service, workloads, pods):
                return problem
        if len(workloads) != sum(wanted.values()) or len(pods) != len(workloads):
            return f"{len(workloads)} instances and {len(pods)} pods"
        return ""

    async def _left(self) -> str:
        try:
            await self.admin.get(MODEL_SERVICES, SERVICE, self.namespace)
        except NotFoundError:
            left = Counter({resource.plural: len(await self._list(resource)) for resource in (*OWNED, PODS)})
            return f"left: {+left}" if +left else ""
        return "the ModelService is there"


def _instances(pool: str, replicas: int, service: Object, workloads: list[Object], pods: list[Object]) -> str:
    def of_pool(objects: list[Object]) -> list[Object]:
        return [each for each in objects if each["metadata"]["labels"].get(names.INSTANCE_POOL) == pool]

    mine = of_pool(workloads)
    revisions = {each["metadata"]["labels"].get(f"{names.GROUP}/revision") for each in mine}
    if len(mine) != replicas or len(revisions) != 1:
        return f"{pool} has {len(mine)} instances of revisions {sorted(map(str, revisions))}"
    for pod in of_pool(pods):
        if pod["metadata"].get("deletionTimestamp") or pod["status"].get("phase") != "Running":
            return f"pod {pod['metadata']['name']} is not running"
        for argument in service["spec"]["engine"]["args"]:
            if argument not in str(pod["spec"]["containers"]):
                return f"pod {pod['metadata']['name']} is of an older revision"
    return ""
