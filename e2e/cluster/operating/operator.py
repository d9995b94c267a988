"""Operators that a test starts and ends, under the rights that the chart would give them."""

import asyncio
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.local import LocalCluster
from pointsman.controller import roles

HOME = "operator-home"
ACCOUNT = "operator"
LEASE = "the-lease"


class Nursery:
    """Starts operators in no time. `nursery` makes one."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def start(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> int:
        return await self._ask({"start": list(arguments), "environment": environment, "log": str(log)})

    async def wait(self, pid: int) -> int:
        """Exit status, negative for a signal."""
        return await self._ask({"wait": pid})

    async def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
            return int(await self._process.stdout.readline())


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """It lives in the network of the thread that makes it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.cluster.operating.nursery", stdin=PIPE, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield Nursery(process)
    finally:
        process.kill()
        await process.wait()


def grant(
    cluster: LocalCluster,
    namespaces: Sequence[str],
    account: str = ACCOUNT,
    rules: tuple[roles.Rule, ...] | None = None,
    leases: Sequence[str] = (LEASE,),
) -> str:
    """A service account with these rights in these namespaces, cluster-wide where none is named; its token. Without `rules`
    it gets all that an operator has, and may lead by any of `leases`.
    """
    metadata = {"name": account, "namespace": HOME}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}]
    for namespace in namespaces or ("",):
        watched = roles.in_watched_namespaces() if rules is None else rules
        objects += _bound(account, f"{account}-{namespace or 'all'}", namespace, watched)
    if rules is None:
        objects += _bound(account, f"{account}-cluster", "", roles.on_the_cluster())
        for lease in leases:
            objects += _bound(account, f"{account}-{lease}", HOME, roles.at_home(lease))
    cluster.apply(*objects)
    return cluster.kubectl("create", "token", account, f"--namespace={HOME}", "--duration=12h").strip()


def _bound(account: str, name: str, namespace: str, rules: tuple[roles.Rule, ...]) -> list[dict[str, Any]]:
    role = roles.role(name, namespace, rules)
    binding = {
        "apiVersion": role["apiVersion"],
        "kind": f"{role['kind']}Binding",
        "metadata": role["metadata"],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": HOME}],
    }
    return [role, binding]


def write_kubeconfig(path: Path, server: str, token: str, authority: bytes | None = None) -> Path:
    cluster: dict[str, Any] = {"server": server}
    if authority is not None:
        cluster["certificate-authority-data"] = authority.decode()
    document = {
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def direct_kubeconfig(path: Path, cluster: LocalCluster, token: str) -> Path:
    """Straight to the API server."""
    described = json.loads(Path(cluster.environment["KUBECONFIG"]).read_text())["clusters"][0]["cluster"]
    return write_kubeconfig(
        path, described["server"], token, described["certificate-authority-data"].encode()
    )


class Operator:
    """One replica, which can be started again and again."""

    def __init__(
        self,
        of: Nursery,
        kubeconfig: Path,
        folder: Path,
        *,
        namespaces: Sequence[str],
        port: int,
        lease: str = LEASE,
        extra: Sequence[str] = (),
    ) -> None:
        self._of = of
        self.pid: int | None = None
        self.starts = 0
        self.port = port
        self.log = folder / f"operator-{secrets.token_hex(3)}.log"
        self._environment = {"KUBECONFIG": str(kubeconfig)}
        self._arguments = [
            *(f"--namespace={namespace}" for namespace in namespaces),
            *(() if namespaces else ("--all-namespaces",)),
            f"--lease-namespace={HOME}",
            f"--lease-name={lease}",
            f"--port={port}",
            "--host=127.0.0.1",
            "--own-image=simulated:test",
            *extra,
        ]

    async def start(self) -> None:
        assert self.pid is None
        self.pid = await self._of.start(self._arguments, self._environment, self.log)
        self.starts += 1

    async def kill(self) -> None:
        """As an out-of-memory killer does."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            await self.reap()

    async def stop(self) -> int:
        """As a kubelet does; gives the exit status."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGTERM)
        return await self.reap()

    async def reap(self) -> int:
        assert self.pid is not None
        status = await self._of.wait(self.pid)
        self.pid = None
        return status
