"""Who may talk to the API server, and the files by which they do."""

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.network import API_SERVER_PORT, CONTROL_PLANE


@dataclass(frozen=True, slots=True)
class User:
    """An entry of the API server's token file."""

    name: str
    groups: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


def control_plane_users() -> dict[str, User]:
    """Users by the component they are for."""
    return {
        "admin": User("admin", ("system:masters",)),
        "controller-manager": User("system:kube-controller-manager"),
        "scheduler": User("system:kube-scheduler"),
        "kube-proxy": User("system:kube-proxy"),
        "coredns": User("coredns", ("system:masters",)),
        "network-policies": User("network-policies", ("system:masters",)),
        "kwok": User("kwok", ("system:masters",)),
        "metrics-server": User("metrics-server", ("system:masters",)),
        "leader-worker-set": User("leader-worker-set", ("system:masters",)),
    }


def node_user(node: str) -> User:
    return User(f"system:node:{node}", ("system:nodes",))


def token_file(users: list[User]) -> str:
    """The API server's `--token-auth-file`: token, user, uid, groups."""
    return "".join(f'{user.token},{user.name},{user.name},"{",".join(user.groups)}"\n' for user in users)


def write(path: Path, user: User, certificate_authority: bytes) -> Path:
    """Write a kubeconfig with everything in it; JSON is YAML."""
    cluster = {
        "server": f"https://{CONTROL_PLANE}:{API_SERVER_PORT}",
        "certificate-authority-data": base64.b64encode(certificate_authority).decode(),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pointsman",
        "clusters": [{"name": "pointsman", "cluster": cluster}],
        "users": [{"name": user.name, "user": {"token": user.token}}],
        "contexts": [{"name": "pointsman", "context": {"cluster": "pointsman", "user": user.name}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2))
    return path
