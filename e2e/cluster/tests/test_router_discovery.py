"""`pointsman router` on a real API server, with the rights it asks for and no more, in front of simulated engines.

Pods are objects without containers here; what they say of their address leads to engines that run beside. On real nodes
the walk-through has the same with pods that are.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import commands
from e2e.cluster.cluster import eventually
from e2e.cluster.commands import CommandError
from e2e.cluster.local import LocalCluster
from e2e.cluster.operating.rights import ROUTER
from pointsman.api.crd.definitions import DEFINITIONS, definitions
from pointsman.api.resources import names
from pointsman.controller.roles import role

NAMESPACE = "serving"
PORT, ADMIN, ENGINES = 18080, 18081, (18001, 18002)
SERVICE: dict[str, Any] = {
    "apiVersion": "pointsman.io/v1alpha1",
    "kind": "ModelService",
    "metadata": {"name": "chat", "namespace": NAMESPACE},
    "spec": {
        "model": {"name": "tiny", "aliases": ["small"]},
        "engine": {"type": "simulated"},
        "pools": [{"name": "main", "replicas": 2, "accelerators": [{"name": "none", "count": 0}]}],
    },
}
RIGHTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "router", "namespace": NAMESPACE}},
    role("router", NAMESPACE, ROUTER),
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "router", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "router"},
        "subjects": [{"kind": "ServiceAccount", "name": "router", "namespace": NAMESPACE}],
    },
]


def engine_pod(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {
                **names.engine_selector(),
                names.MODEL_SERVICE: "chat",
                names.POOL: "main",
                names.ROLE: "mixed",
            },
            "annotations": {names.PORT: str(port), names.CONNECTOR: "none", names.MODEL: "tiny"},
            "finalizers": ["test.pointsman.io/terminating"],
        },
        "spec": {"containers": [{"name": "engine", "image": "none"}]},
    }


class Routed:
    """A router with its engines, in the cluster's network."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self._stack = contextlib.ExitStack()
        for port in ENGINES:
            self._start("engine", f"--port={port}", "--served-model-name=tiny", "--model=tiny")
        file = folder / "router.yaml"
        config = {
            "kubernetes": {"namespaces": [NAMESPACE], "kubeconfig": str(self._kubeconfig(folder))},
            "listen": {"port": PORT},
            "admin": {"port": ADMIN},
            "queue": {"max_wait_for_instance_s": 0},
        }
        file.write_text(yaml.safe_dump(config))
        self._start("router", f"--config={file}")

    def close(self) -> None:
        self._stack.close()

    def _start(self, *arguments: str) -> None:
        process = subprocess.Popen(
            self.cluster.command([sys.executable, "-m", "pointsman.cli", *arguments]),
            env={**commands.without_proxies(), **self.cluster.environment},
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def _kubeconfig(self, folder: Path) -> Path:
        """That of an account which may do what the router's may."""
        config = json.loads(Path(self.cluster.environment["KUBECONFIG"]).read_text())
        token = self.cluster.kubectl("--namespace", NAMESPACE, "create", "token", "router").strip()
        config["users"][0]["user"] = {"token": token}
        file = folder / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        return file

    def told(self) -> dict[str, Any]:
        """What `/ready` says; empty while nobody answers."""
        try:
            answer = self.cluster.run(["curl", "--silent", f"http://127.0.0.1:{ADMIN}/ready"]).stdout
        except CommandError:
            return {}
        found: dict[str, Any] = json.loads(answer)
        return found

    def instances(self) -> list[dict[str, Any]]:
        listed = self.cluster.run(["curl", "--silent", f"http://127.0.0.1:{ADMIN}/admin/instances"]).stdout
        found: list[dict[str, Any]] = json.loads(listed)["instances"]
        return found

    def available(self) -> list[str]:
        return sorted(found["url"] for found in self.instances() if found["available"])

    def ask(self, model: str = "tiny") -> str:
        """The HTTP status of one short request."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        argv = ["curl", "--silent", "--output", os.devnull, "--write-out", "%{http_code}", "--json"]
        url = f"http://127.0.0.1:{PORT}/v1/chat/completions"
        return self.cluster.run([*argv, json.dumps(body), url]).stdout

    def make_ready(self, pod: str, *, ready: bool = True) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status = {
            "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [condition]}
        }
        self.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("--namespace", NAMESPACE, *arguments)


@pytest.fixture(scope="module")
def routed(control_plane: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    control_plane.apply(*definitions())
    for definition in DEFINITIONS:
        control_plane.kubectl(
            "wait", "--for=condition=Established", f"crd/{definition.name}", "--timeout=30s"
        )
    control_plane.apply(*RIGHTS)
    routed = Routed(control_plane, tmp_path_factory.mktemp("router"))
    try:
        eventually(lambda: bool(routed.told().get("ready")), "the router is not ready")
        yield routed
    finally:
        routed.close()


def test_a_model_service_and_its_pods_from_nothing_to_gone(routed: Routed) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ENGINES]
    assert routed.ask() == "404"
    routed.cluster.apply(SERVICE)
    eventually(
        lambda: routed.told()["model_services"] == {"serving/chat": 1}, "the ModelService is not served"
    )
    assert routed.ask() == "503", "it waits for its first pod"

    for name, port in zip(("one", "two"), ENGINES, strict=True):
        routed.cluster.apply(engine_pod(name, port))
    routed.make_ready("one")
    eventually(lambda: routed.available() == urls[:1], "the pod that is ready is not used")
    assert routed.ask() == routed.ask("small") == "200"
    routed.make_ready("two")
    eventually(lambda: routed.available() == urls, "the other pod is not used")

    routed.make_ready("one", ready=False)
    eventually(lambda: routed.available() == urls[1:], "a pod that is not ready is still used")
    routed.make_ready("one")
    eventually(lambda: routed.available() == urls, "a pod that is ready again is not used")

    # The finalizer keeps it there, ready as it was: only its deletion timestamp tells.
    routed.kubectl("delete", "pod", "one", "--wait=false")
    eventually(lambda: routed.available() == urls[1:], "a terminating pod is still used")
    assert "one" in routed.kubectl("get", "pods")
    routed.kubectl("patch", "pod", "one", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')

    routed.kubectl("label", "pod", "two", "--overwrite", f"{names.ROLE}=decode")
    eventually(
        lambda: [each["role"] for each in routed.instances()] == ["decode"], "the new role is not seen"
    )

    routed.kubectl("patch", "msvc", "chat", "--type=merge", "-p", '{"spec":{"model":{"aliases":["little"]}}}')
    eventually(lambda: routed.told()["model_services"] == {"serving/chat": 2}, "the change is not in force")
    assert (routed.ask("small"), routed.ask("little")) == ("404", "200")

    # An unknown policy is refused by the API server; what parameters there are, the router knows.
    policy = '{"spec":{"routing":{"policy":{"parameters":{"guesswork":1}}}}}'
    routed.kubectl("patch", "msvc", "chat", "--type=merge", "-p", policy)
    eventually(
        lambda: "serving/chat" in routed.told()["refused"], "nobody says that the parameter is unknown"
    )
    assert routed.told()["model_services"] == {"serving/chat": 2}
    assert routed.ask() == "200"

    routed.cluster.control_plane.restart("kube-apiserver")  # its watches die with it
    assert routed.ask() == "200"
    eventually(lambda: not routed.told()["trouble"], "the API server is not followed again")
    routed.kubectl("delete", "msvc", "chat")
    eventually(lambda: routed.ask() == "404", "a model that is gone is still served")
