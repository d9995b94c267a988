"""metrics-server beside the control plane: what HorizontalPodAutoscalers read, and `kubectl top`."""

import http
from pathlib import Path
from typing import Any

from e2e.cluster import network
from e2e.cluster.control_plane import ControlPlane

FOLDER = "metrics-server"
PORT = 4443
# The least it takes; it needs two of them before it says anything.
RESOLUTION_SECONDS = 10
API = "/apis/metrics.k8s.io/v1beta1"
METADATA = {"name": "metrics-server", "namespace": "kube-system"}


def start(plane: ControlPlane, commands: Path) -> None:
    """Start it on a cluster with nodes; `objects` let the API server find it. Raises SandboxError."""
    kubeconfig = plane.kubeconfig_of("metrics-server")
    plane.sandbox.start(
        "metrics-server",
        [
            commands / "metrics-server",
            *(f"--{of}kubeconfig={kubeconfig}" for of in ("", "authentication-", "authorization-")),
            f"--bind-address={network.CONTROL_PLANE}",
            f"--secure-port={PORT}",
            f"--cert-dir={plane.sandbox.folder / 'metrics-server'}",
            f"--metric-resolution={RESOLUTION_SECONDS}s",
            f"--kubelet-request-timeout={RESOLUTION_SECONDS // 2}s",
            "--kubelet-insecure-tls",
            "--kubelet-preferred-address-types=InternalIP",
        ],
        restart=True,
    )


def objects() -> list[dict[str, Any]]:
    """A Service that selects nothing, for its one endpoint is no pod, and the API that it serves."""
    port = {"name": "https", "port": 443, "protocol": "TCP"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": METADATA,
            "spec": {"ports": [{**port, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**METADATA, "labels": {"kubernetes.io/service-name": METADATA["name"]}},
            "addressType": "IPv4",
            "ports": [{**port, "port": PORT}],
            "endpoints": [{"addresses": [network.CONTROL_PLANE], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "service": METADATA,
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def answers(plane: ControlPlane) -> bool:
    return plane.get(f"{API}/nodes")[0] == http.HTTPStatus.OK
