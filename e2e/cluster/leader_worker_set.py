"""LeaderWorkerSet's controller beside the control plane: instances that span nodes."""

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import certificates, module_files, network
from e2e.cluster.certificates import Certificate
from e2e.cluster.control_plane import ControlPlane

FOLDER = "leader-worker-set"
RESOURCE = "leaderworkersets.leaderworkerset.x-k8s.io"
PORT = 9443
NAMESPACE = "lws-system"
"""Where it keeps what is its own."""
# Pods of others are none of its business; so its own manifests patch it.
OWN_PODS = {
    "matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}],
}


def definitions() -> list[dict[str, Any]]:
    """Its custom resource definition, from its module: nothing has to be built. Raises CommandError."""
    bases = module_files.folder_of_tool(FOLDER) / "config" / "crd" / "bases"
    return [yaml.safe_load(file.read_text()) for file in sorted(bases.glob("*.yaml"))]


def webhooks(commands: Path, authority: bytes) -> list[dict[str, Any]]:
    """Its admission webhooks, at an address in place of a Service."""
    found = []
    for each in yaml.safe_load_all((commands / "files" / "webhook" / "manifests.yaml").read_text()):
        for hook in each["webhooks"]:
            path = hook["clientConfig"]["service"]["path"]
            hook["clientConfig"] = {
                "url": f"https://{network.CONTROL_PLANE}:{PORT}{path}",
                "caBundle": base64.b64encode(authority).decode(),
            }
            if path.endswith("-pod"):
                hook["objectSelector"] = OWN_PODS
        each["metadata"]["name"] = f"lws-{each['metadata']['name']}"
        found.append(each)
    return found


def start(plane: ControlPlane, commands: Path) -> Certificate:
    """Start it; `definitions` have to be there. The certificate is that of its webhooks. Raises SandboxError."""
    folder = plane.sandbox.folder / FOLDER
    certificate = certificates.self_signed(
        plane.sandbox, folder / "certificates", "leader-worker-set", network.CONTROL_PLANE
    )
    configuration = folder / "configuration.json"
    configuration.write_text(
        json.dumps(
            {
                "apiVersion": "config.lws.x-k8s.io/v1alpha1",
                "kind": "Configuration",
                "leaderElection": {"leaderElect": False},
                "internalCertManagement": {"enable": False},
                "webhook": {
                    "host": network.CONTROL_PLANE,
                    "port": PORT,
                    "certDir": str(certificate.folder),
                },
                "metrics": {"bindAddress": "0"},
                "health": {"healthProbeBindAddress": "0"},
            }
        )
    )
    plane.sandbox.start(
        FOLDER,
        [
            commands / FOLDER,
            f"--kubeconfig={plane.kubeconfig_of(FOLDER)}",
            f"--config={configuration}",
            "--zap-log-level=info",
        ],
        restart=True,
    )
    return certificate
