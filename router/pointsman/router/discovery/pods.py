"""What a router must know of an engine's pod."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources import names
from pointsman.core.instances import Role

DEFAULT_PORT = 8000


@dataclass(frozen=True, slots=True)
class EnginePod:
    """One pod with an engine in it."""

    name: str
    """`namespace/name`"""
    uid: str
    service: str
    """`namespace/name` of its ModelService."""
    pool: str
    role: Role
    address: str
    """Base URL; empty until the pod has an address."""
    usable: bool
    """Ready, and not on its way out."""
    connector: str = "none"
    bootstrap_port: int | None = None
    transfer_group: str | None = None
    model: str | None = None
    """What the engine was told to answer to; None: not said."""
    adapters: tuple[str, ...] | None = None
    """None: not said."""


def read_pod(obj: Mapping[str, Any]) -> EnginePod:
    """Raises ValueError for a pod whose labels or annotations cannot be read; it is not ours, or a newer operator's."""
    metadata, status = obj["metadata"], obj.get("status", {})
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    namespace = metadata["namespace"]
    service = labels.get(names.MODEL_SERVICE)
    if not service:
        raise ValueError(f"has no label {names.MODEL_SERVICE}")
    port = _port(annotations, names.PORT) or DEFAULT_PORT
    adapters = annotations.get(names.ADAPTERS)
    host = status.get("podIP", "")
    return EnginePod(
        name=f"{namespace}/{metadata['name']}",
        uid=metadata["uid"],
        service=f"{namespace}/{service}",
        pool=labels.get(names.POOL, ""),
        role=_role(labels.get(names.ROLE, Role.MIXED.value)),
        address=f"http://{_bracketed(host)}:{port}" if host else "",
        usable=bool(host) and "deletionTimestamp" not in metadata and _is_ready(status),
        connector=annotations.get(names.CONNECTOR, "none"),
        bootstrap_port=_port(annotations, names.BOOTSTRAP_PORT),
        transfer_group=annotations.get(names.TRANSFER_GROUP),
        model=annotations.get(names.MODEL),
        adapters=None if adapters is None else tuple(filter(None, adapters.split(","))),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions", ())
    )


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise ValueError(f"label {names.ROLE}: no role is called {text!r}") from None


def _port(annotations: Mapping[str, str], name: str) -> int | None:
    text = annotations.get(name)
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"annotation {name}: no port is called {text!r}")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
