"""Where the API server is and who we are to it: inside a pod by its service account, elsewhere by a kubeconfig."""

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pointsman.kube.errors import AccessError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """A way to an API server."""

    server: str
    """URL without a path or with a prefix, such as `https://10.0.0.1:6443`."""
    namespace: str = "default"
    """The pod's own namespace, or the context's."""
    tls: ssl.SSLContext | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """Read again and again, as a projected token is replaced before it expires."""


def find_access(environment: Mapping[str, str], *, home: Path, context: str | None = None) -> Access:
    """KUBECONFIG's, else the pod's, else `~/.kube/config`. Raises AccessError."""
    if named := environment.get("KUBECONFIG"):
        return kubeconfig_access(Path(named), context)
    if "KUBERNETES_SERVICE_HOST" in environment and context is None:
        return in_cluster_access(environment)
    file = home / ".kube" / "config"
    if file.exists():
        return kubeconfig_access(file, context)
    raise AccessError(
        f"no cluster to talk to: not in a pod, KUBECONFIG is not set and {file} is not there; "
        "set KUBECONFIG to a kubeconfig file"
    )


def in_cluster_access(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The service account that Kubernetes mounts into a pod. Raises AccessError."""
    host, port = (
        environment.get("KUBERNETES_SERVICE_HOST", ""),
        environment.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        raise AccessError("KUBERNETES_SERVICE_HOST is not set: this is no pod, or its service links are off")
    try:
        namespace = (folder / "namespace").read_text().strip()
        tls = _context((folder / "ca.crt").read_text())
    except (OSError, ssl.SSLError) as error:
        raise AccessError(
            f"the pod's service account cannot be read: {error}; is automountServiceAccountToken off?"
        ) from error
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, namespace, tls, token_file=folder / "token")


def kubeconfig_access(file: Path, context: str | None = None) -> Access:
    """A context of a kubeconfig, its current one unless named. Raises AccessError."""
    try:
        document = yaml.safe_load(file.read_text())
        return _from_document(document, file.parent, context)
    except (OSError, yaml.YAMLError, ssl.SSLError, binascii.Error, UnicodeDecodeError) as error:
        raise AccessError(f"{file}: {error}") from error
    except AccessError as error:
        raise AccessError(f"{file}: {error}") from error


def _from_document(document: Any, folder: Path, context: str | None) -> Access:
    if not isinstance(document, Mapping):
        raise AccessError("this is no kubeconfig: it holds no mapping")
    wanted = context or document.get("current-context")
    if not wanted:
        raise AccessError("it has no current-context: name one")
    chosen = _named(document, "contexts", "context", wanted)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster"))
    user = _named(document, "users", "user", chosen.get("user"))
    if not isinstance(cluster.get("server"), str):
        raise AccessError(f"cluster {chosen.get('cluster')!r} has no server")
    if "exec" in user or "auth-provider" in user:
        raise AccessError(
            f"user {chosen.get('user')!r} logs in by a plug-in, which is not supported: "
            "use a token, as `kubectl create token` makes one, or a client certificate"
        )
    tls = None
    if cluster["server"].startswith("https:"):
        tls = _context(_material(cluster, "certificate-authority", folder))
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        _load_client_certificate(tls, user, folder)
    token_file = user.get("tokenFile")
    return Access(
        cluster["server"].rstrip("/"),
        chosen.get("namespace") or "default",
        tls,
        token=user.get("token") or "",
        token_file=folder / token_file if token_file else None,
    )


def _named(document: Mapping[str, Any], plural: str, singular: str, name: Any) -> Mapping[str, Any]:
    for entry in document.get(plural) or ():
        if isinstance(entry, Mapping) and entry.get("name") == name:
            return entry.get(singular) or {}
    raise AccessError(f"there is no {singular} named {name!r}")


def _material(entry: Mapping[str, Any], name: str, folder: Path) -> str | None:
    """PEM text given in place or by file; the former wins, as in kubectl."""
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(data).decode()
    if file := entry.get(name):
        return (folder / str(file)).read_text()
    return None


def _context(authority: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority)
    # Python 3.13 began to refuse authorities without a key identifier, which clusters in use do have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load_client_certificate(tls: ssl.SSLContext, user: Mapping[str, Any], folder: Path) -> None:
    certificate = _material(user, "client-certificate", folder)
    key = _material(user, "client-key", folder)
    if certificate is None:
        return
    if key is None:
        raise AccessError("a client certificate without its client-key")
    # OpenSSL reads them from files only.
    with tempfile.TemporaryDirectory() as private:
        pair = Path(private) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_text(f"{certificate}\n{key}\n")
        tls.load_cert_chain(pair)
