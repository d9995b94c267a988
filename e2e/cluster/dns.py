"""Names of Services: CoreDNS on the control plane's address, behind the Service where pods look for it."""

from pathlib import Path
from typing import Any

from e2e.cluster import network
from e2e.cluster.sandbox import Sandbox

# Each block on lines of its own: CoreDNS takes nothing else.
COREFILE = """\
.:53 {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"""


def resolv_conf() -> str:
    """For commands that enter the cluster's namespaces; pods get theirs from the kubelet."""
    return (
        f"nameserver {network.CONTROL_PLANE}\nsearch svc.{network.CLUSTER_DOMAIN} {network.CLUSTER_DOMAIN}\n"
    )


def start(sandbox: Sandbox, coredns: Path, kubeconfig: Path) -> None:
    corefile = sandbox.folder / "Corefile"
    corefile.write_text(
        COREFILE.format(address=network.CONTROL_PLANE, domain=network.CLUSTER_DOMAIN, kubeconfig=kubeconfig)
    )
    sandbox.resolv_conf.write_text(resolv_conf())
    sandbox.start("coredns", [coredns / "coredns", "-conf", corefile])


def objects() -> dict[str, dict[str, Any]]:
    """The Service that pods' resolv.conf names, by where they are created. It selects nothing: its one endpoint is no pod."""
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [
        {"name": name, "port": 53, "protocol": protocol}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": network.DNS_SERVICE, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [network.CONTROL_PLANE], "conditions": {"ready": True}}],
    }
    return {
        "/api/v1/namespaces/kube-system/services": service,
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices": endpoints,
    }
