"""etcd, API server, controller manager and scheduler in a sandbox, with fake nodes by kwok where wanted.

Everything starts at once and waits for what it needs by itself, so the cluster is up as soon as its slowest part is.
"""

import http.client
import json
import signal
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import certificates, commands, kubeconfig, network
from e2e.cluster.sandbox import Sandbox

READY_SECONDS = 120.0
POLL_SECONDS = 0.05
# A node that is killed is noticed sooner than after the usual 50, for which tests would have to wait. Half as long was too short on a
# starved machine: both nodes at once counted as lost, and no router had an engine left.
NODE_GRACE_SECONDS = 24
# Fake ones never end, and kwok never makes a pod ready again that the controller manager declared unready: a busy machine,
# where a Lease comes late, must not be the end of one.
FAKE_NODE_GRACE_SECONDS = 1200

# Who did what, without bodies: the tests of permissions read it.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


# By which the API server is called, its address apart.
OTHER_NAMES = (
    f"IP:{network.KUBERNETES_SERVICE}",
    "IP:127.0.0.1",
    *(f"DNS:kubernetes{suffix}" for suffix in ("", ".default", ".default.svc")),
    f"DNS:kubernetes.default.svc.{network.CLUSTER_DOMAIN}",
)


class NotReadyError(Exception):
    """Something did not become ready in time."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Directories with the built commands, by folder of `tools/`."""

    kubernetes: Path
    etcd: Path
    kwok: Path
    coredns: Path
    network_policies: Path
    helm: Path


class ControlPlane:
    """A control plane in a sandbox, which is the caller's to close."""

    def __init__(
        self, sandbox: Sandbox, built: Binaries, nodes: Sequence[str], first_objects: Path | None = None
    ) -> None:
        """Start etcd, on a copy of its data in `first_objects`, and the API server, which knows users for the named nodes.

        Raises SandboxError, CommandError.
        """
        self.sandbox = sandbox
        self.binaries = built
        self.audit_log = sandbox.logs / "audit.log"
        self._users = kubeconfig.control_plane_users() | {node: kubeconfig.node_user(node) for node in nodes}
        self._node_grace_s = NODE_GRACE_SECONDS if nodes else FAKE_NODE_GRACE_SECONDS
        self._folder = sandbox.folder / "control-plane"
        self.storage = self._folder / "etcd"
        self._certificate = certificates.Certificate(self._folder / "api-server").certificate
        self._folder.mkdir()
        if first_objects is not None:
            commands.run(["cp", "--archive", "--sparse=always", first_objects, self.storage])
        self._start_storage()
        self._start_api_server()

    def wait_for_api_server(self) -> None:
        """Raises NotReadyError, or SandboxError when a component has died."""
        self.wait("the API server is not ready", self._is_ready)

    def wait_until_ready(self) -> None:
        """Raises NotReadyError, or SandboxError when a component has died."""
        self.wait_for_api_server()
        self.wait("there is no default service account", self._has_service_account)

    def listens(self) -> bool:
        """Whether the API server answers at all, if only that it is not ready."""
        return self.get("/livez")[0] != 0

    def kubeconfig_of(self, component: str) -> Path:
        """The kubeconfig of a component or node, written when it is first asked for."""
        path = self.sandbox.folder / "kubeconfigs" / component
        if not path.exists():
            kubeconfig.write(path, self._users[component], self._certificate.read_bytes())
        return path

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET to the API server as admin; status 0 while nothing listens."""
        return self._request("GET", path)

    def create(self, path: str, created: Mapping[str, Any]) -> None:
        """POST an object to a collection, a second sooner than kubectl. Raises NotReadyError when it is refused."""
        status, said = self._request("POST", path, json.dumps(created))
        if status != http.HTTPStatus.CREATED:
            raise NotReadyError(
                f"the API server answered {status} to a new {created['kind']}: {said.decode()}"
            )

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self._certificate))
        with self.sandbox.network():
            connection = http.client.HTTPSConnection(
                network.CONTROL_PLANE, network.API_SERVER_PORT, context=context, timeout=10
            )
            try:
                token = self._users["admin"].token
                headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                return response.status, response.read()
            except OSError:
                return 0, b""
            finally:
                connection.close()

    def restart(self, component: str) -> None:
        """Kill a component and start it again on the same state. Raises NotReadyError."""
        self.sandbox.kill(component)
        self.sandbox.start_again(component)
        self.wait_until_ready()

    def wait(self, otherwise: str, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Poll until the condition holds. Raises NotReadyError, or SandboxError when a component has died."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.sandbox.check()
            if time.monotonic() > deadline:
                raise NotReadyError(f"{otherwise} after {seconds:.0f} s; logs: {self.sandbox.logs}")
            time.sleep(POLL_SECONDS)

    def stop_storing(self) -> None:
        """End API server and etcd as a service manager does, so that everything is written. Raises SandboxError."""
        for component in ("kube-apiserver", "etcd"):
            self.sandbox.kill(component, signal.SIGTERM)

    def start_kwok(self) -> None:
        """Let nodes annotated as fake be kept alive, and their pods run without containers."""
        stages = self.binaries.kwok / "files"
        # kwok knows no stages of its own: nodes that beat, pods that run and end at once.
        configurations = [
            stages / "node" / "fast" / "node-initialize.yaml",
            stages / "node" / "heartbeat-with-lease" / "node-heartbeat-with-lease.yaml",
            *sorted((stages / "pod" / "fast").glob("pod-*.yaml")),
        ]
        self.sandbox.start(
            "kwok",
            [
                self.binaries.kwok / "kwok",
                f"--kubeconfig={self.kubeconfig_of('kwok')}",
                "--manage-all-nodes=false",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                "--node-lease-duration-seconds=40",
                *(f"--config={configuration}" for configuration in configurations),
            ],
        )

    def _start_storage(self) -> None:
        self.sandbox.start(
            "etcd",
            [
                self.binaries.etcd / "etcd",
                f"--data-dir={self.storage}",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                # Nothing in here outlives the machine's memory, so nothing waits for its disk.
                "--unsafe-no-fsync",
                # It is alone and elects itself once such a time has passed: the usual second is a sixth of the whole start.
                *("--heartbeat-interval=10", "--election-timeout=100"),
                "--log-level=warn",
            ],
        )

    def _start_api_server(self) -> None:
        tokens = self._folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(kubeconfig.token_file(list(self._users.values())))
        signing_key = self._folder / "service-accounts.key"
        self.sandbox.run(
            ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", signing_key]
        )
        # One that it makes itself takes longer. It is its own authority.
        own = certificates.self_signed(
            self.sandbox, self._certificate.parent, "kube-apiserver", network.CONTROL_PLANE, OTHER_NAMES
        )
        # With it the API server calls, as others' front, APIs that somebody else serves (metrics-server).
        front = certificates.self_signed(
            self.sandbox, self._folder / "front", "front-proxy-client", network.CONTROL_PLANE
        )
        policy = self._folder / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        self.sandbox.start(
            "kube-apiserver",
            [
                self.binaries.kubernetes / "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={network.CONTROL_PLANE}",
                f"--secure-port={network.API_SERVER_PORT}",
                f"--tls-cert-file={own.certificate}",
                f"--tls-private-key-file={own.key}",
                f"--token-auth-file={tokens}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                f"--service-cluster-ip-range={network.SERVICES}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={signing_key}",
                f"--service-account-key-file={signing_key}",
                "--allow-privileged",
                "--kubelet-preferred-address-types=InternalIP",
                f"--requestheader-client-ca-file={front.certificate}",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={front.certificate}",
                f"--proxy-client-key-file={front.key}",
                # Straight to their endpoints: those are beside it, and no kube-proxy is.
                "--enable-aggregator-routing=true",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
            ],
            # Most of what it makes while it starts stays: looking for garbage so soon is a tenth of the whole start.
            environment={"GOGC": "400"},
        )

    def start_clients(self) -> None:
        """Start controller manager and scheduler. Raises SandboxError."""
        self.sandbox.start(
            "kube-controller-manager",
            [
                self.binaries.kubernetes / "kube-controller-manager",
                f"--kubeconfig={self.kubeconfig_of('controller-manager')}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={self._folder / 'service-accounts.key'}",
                f"--root-ca-file={self._certificate}",
                "--leader-elect=false",
                # Its own limit of 20 requests a second makes thousands of Deployments a matter of many minutes.
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                "--node-monitor-period=1s",
                f"--node-monitor-grace-period={self._node_grace_s}s",
                # So is load, which by default counts only five minutes after a pod began.
                "--horizontal-pod-autoscaler-sync-period=2s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
                "--horizontal-pod-autoscaler-cpu-initialization-period=15s",
            ],
            restart=True,  # it waits for the API server for a while only, and a busy machine is slow
        )
        self.sandbox.start(
            "kube-scheduler",
            [
                self.binaries.kubernetes / "kube-scheduler",
                f"--kubeconfig={self.kubeconfig_of('scheduler')}",
                "--leader-elect=false",
            ],
            restart=True,
        )

    def _is_ready(self) -> bool:
        return self.get("/readyz")[0] == http.HTTPStatus.OK

    def _has_service_account(self) -> bool:
        # Pods of the default namespace are refused until the controller manager has made it.
        return self.get("/api/v1/namespaces/default/serviceaccounts/default")[0] == http.HTTPStatus.OK
