"""Pointsman as plain Kubernetes objects: simulated engines, a router, and a place to call it from.

What the chart and the operator will make, by hand, so that today's parts are seen to work in a cluster.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

MODEL = "tiny"
ENGINE_PORT = 8000
ROUTER_PORT = 8080
ADMIN_PORT = 8081
SIDE_CHANNEL_PORT = 5600
START_SECONDS = 1800  # a busy machine is slow; tests have shorter limits of their own
CONFIGURATION = "/etc/pointsman"

# Nothing that a careful cluster would refuse.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Engine:
    """One simulated instance, a Deployment of one behind a Service of its own, on a node where one is named."""

    name: str
    role: str = "mixed"
    node: str | None = None


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def deployment(name: str, pod: Object, *, replicas: int = 1, node: str | None = None) -> Object:
    placed = pod if node is None else {**pod, "nodeSelector": {"kubernetes.io/hostname": node}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels(name)},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": START_SECONDS,
            "selector": {"matchLabels": labels(name)},
            "template": {"metadata": {"labels": labels(name)}, "spec": placed},
        },
    }


def service(name: str, port: int, target: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels(name), "ports": [{"port": port, "targetPort": target}]},
    }


def container(image: str, arguments: Sequence[str], *, port: int, health: tuple[str, int]) -> dict[str, Any]:
    path, health_port = health
    return {
        "name": "main",
        "image": image,
        "args": list(arguments),
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": path, "port": health_port}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }


def engine(image: str, described: Engine) -> list[Object]:
    """A simulated engine that any other can fetch KV from, and its Service."""
    arguments = [
        "engine",
        "--host=0.0.0.0",
        f"--port={ENGINE_PORT}",
        f"--served-model-name={MODEL}",
        f"--model={MODEL}",
        "--kv-connector=nixl",
        "--kv-host=$(POD_IP)",
        f"--kv-port={SIDE_CHANNEL_PORT}",
    ]
    pod: dict[str, Any] = {
        "containers": [container(image, arguments, port=ENGINE_PORT, health=("/health", ENGINE_PORT))],
        "terminationGracePeriodSeconds": 10,
    }
    return [
        deployment(described.name, pod, node=described.node),
        service(described.name, ENGINE_PORT, ENGINE_PORT),
    ]


def router(
    image: str, engines: Sequence[Engine], *, replicas: int = 1, node: str | None = None
) -> list[Object]:
    """A router in front of the engines: its configuration, the admin port's token, its pods and its Service on port 80."""
    configuration = {
        "listen": {"host": "0.0.0.0", "port": ROUTER_PORT},
        "admin": {"host": "0.0.0.0", "port": ADMIN_PORT, "token_file": f"{CONFIGURATION}/token"},
        "models": [
            {
                "name": MODEL,
                "instances": [
                    {"url": f"http://{each.name}:{ENGINE_PORT}", "role": each.role, "connector": "nixl"}
                    for each in engines
                ],
            }
        ],
        "health": {"interval_s": 0.5},
        # Balancers need a moment to notice that a pod is on its way out.
        "drain_delay_s": 3,
    }
    files = {"router.yaml": json.dumps(configuration), "token": "of-the-test"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "router"}, "stringData": files}
    main = container(
        image,
        ["router", f"--config={CONFIGURATION}/router.yaml"],
        port=ROUTER_PORT,
        health=("/ready", ADMIN_PORT),
    ) | {"volumeMounts": [{"name": "configuration", "mountPath": CONFIGURATION, "readOnly": True}]}
    pod = {
        "containers": [main],
        "volumes": [{"name": "configuration", "secret": {"secretName": "router"}}],
        "terminationGracePeriodSeconds": 40,
    }
    return [
        secret,
        deployment("router", pod, replicas=replicas, node=node),
        service("router", 80, ROUTER_PORT),
    ]


IDLE = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"
"""A program for a pod that others run programs in."""

FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"
"""A program for the client pod, with the standard library alone: the body at a URL."""


def client(image: str, *, node: str | None = None) -> Object:
    """A pod with the project's Python in it, to make requests from inside the cluster on any provider."""
    main = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", IDLE],
        "securityContext": RESTRICTED,
    }
    return deployment("client", {"containers": [main]}, node=node)
