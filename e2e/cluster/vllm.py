"""Real vLLM engines in pods: their environment is mounted from the node, at the same paths, into an image without it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2e.cluster.serving import (
    ENGINE_PORT,
    IDLE,
    MODEL,
    SIDE_CHANNEL_PORT,
    Engine,
    Object,
    container,
    deployment,
    service,
)

SCRATCH: dict[str, tuple[str, dict[str, Any]]] = {
    "temporary": ("/tmp", {"emptyDir": {}}),  # noqa: S108 - the container's own
    "shared": ("/dev/shm", {"emptyDir": {"medium": "Memory"}}),  # noqa: S108 - the pod's own
}


@dataclass(frozen=True, slots=True)
class MountedVllm:
    """vLLM's environment as folders of the node; only the cache is written to."""

    python: str
    model: str
    cache: str
    read_only: tuple[str, ...]
    python_path: str


def engine(image: str, described: Engine, vllm: MountedVllm) -> list[Object]:
    """VLLM on CPUs, which exchanges KV with others over TCP, and its Service."""
    transfer = {"kv_connector": "NixlConnector", "kv_role": "kv_both", "kv_buffer_device": "cpu"}
    arguments = [
        *("-m", "vllm.entrypoints.cli.main", "serve", vllm.model),
        *(f"--served-model-name={MODEL}", "--host=0.0.0.0", f"--port={ENGINE_PORT}", "--seed=0"),
        *(
            "--dtype=float32",
            "--enforce-eager",
            "--block-size=32",
            "--max-model-len=2048",
            "--max-num-seqs=16",
        ),
        f"--kv-transfer-config={json.dumps(transfer)}",
    ]
    variables = {
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": vllm.python_path,
        "UCX_TLS": "tcp,self",
        "VLLM_CACHE_ROOT": vllm.cache,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "$(POD_IP)",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(SIDE_CHANNEL_PORT),
        "VLLM_NO_USAGE_STATS": "1",
    }
    main = container(image, arguments, port=ENGINE_PORT, health=("/health", ENGINE_PORT))
    main["command"] = [vllm.python]
    main["env"] += [{"name": name, "value": value} for name, value in variables.items()]
    main["resources"] = {"requests": {"cpu": "500m", "memory": "3Gi"}}
    pod = _with_folders(main, writable=[vllm.cache], read_only=vllm.read_only)
    return [
        deployment(described.name, pod, node=described.node),
        service(described.name, ENGINE_PORT, ENGINE_PORT),
    ]


def client(image: str, node: str, vllm: MountedVllm) -> Object:
    """A pod on a node to ask from with what users have: curl, and the openai package of vLLM's environment."""
    main = {"name": "main", "image": image, "command": [vllm.python, "-c", IDLE]}
    return deployment("client", _with_folders(main, writable=[], read_only=vllm.read_only), node=node)


def _with_folders(main: dict[str, Any], *, writable: Sequence[str], read_only: Sequence[str]) -> Object:
    """A pod of one container, with folders of the node at their own paths."""
    folders = dict(SCRATCH)
    for number, folder in enumerate((*writable, *read_only)):
        folders[f"host-{number}"] = (folder, {"hostPath": {"path": folder, "type": "Directory"}})
    # The node's files are their owner's, and so is who reads them.
    main["securityContext"] = {"allowPrivilegeEscalation": False}
    main["volumeMounts"] = [
        {"name": name, "mountPath": path, "readOnly": path in read_only}
        for name, (path, _) in folders.items()
    ]
    return {
        "containers": [main],
        "enableServiceLinks": False,
        "volumes": [{"name": name, **source} for name, (_, source) in folders.items()],
        "terminationGracePeriodSeconds": 5,
    }
