"""Our router, as people run it, with every feature that exists switched on."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dataplane import interpreter
from dataplane.compiled import PACKAGES, compiled
from dataplane.load import API_KEY, BUILD, MODEL, ROOT, free_ports
from dataplane.machine import Cores
from dataplane.network import HOST, require_ready
from dataplane.processes import Running
from dataplane.sides import Endpoint, Side


def command(file: Path, *, pure: bool = False) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a router with this configuration; `pure`: as Python, and not compiled."""
    argv = [str(interpreter.environment()), "-m", "pointsman.cli", "router", "--config", str(file)]
    folders = [ROOT / name for name in PACKAGES] if pure else [compiled()]
    return argv, {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def config(instances: Sequence[dict[str, Any]], port: int, admin_port: int) -> dict[str, Any]:
    """Tenants with hashed keys, prefix affinity on hashed blocks, tracked sessions, health checks, scraping, breakers."""
    return {
        "models": [{"name": MODEL, "policy": {"name": "prefix_affinity"}, "instances": list(instances)}],
        "listen": {"host": "127.0.0.1", "port": port},
        "admin": {"host": "127.0.0.1", "port": admin_port},
        "tenants": [
            {
                "name": "bench",
                "key_hashes": ["sha256:" + hashlib.sha256(API_KEY.encode()).hexdigest()],
                "max_priority": 10,
            }
        ],
        "sessions": "tracked",
        "log_level": "warning",
    }


def ours(name: str = "pointsman", *, disaggregated: bool = False, pure: bool = False) -> Side:
    """The engines as mixed instances, or the first half as prefill and the second as decode instances.

    `pure`: as Python, and not compiled.
    """

    @contextmanager
    def start(engine_ports: Sequence[int], cores: Cores) -> Iterator[Endpoint]:
        port, admin_port = free_ports(2)
        instances = []
        for number, engine_port in enumerate(engine_ports):
            instance: dict[str, Any] = {"url": f"http://127.0.0.1:{engine_port}"}
            if disaggregated:
                instance |= {
                    "role": "prefill" if number < len(engine_ports) // 2 else "decode",
                    "connector": "nixl",
                }
            instances.append(instance)
        document = config(instances, port, admin_port)
        if disaggregated:
            document["models"][0]["local_prefill_tokens"] = 0
        file = BUILD / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document))
        argv, env = command(file, pure=pure)
        with Running(argv, core=cores.router, log=BUILD / "logs" / f"{name}.log", env=env) as router:
            require_ready(router, HOST, admin_port, "/ready", "")
            yield Endpoint(port, router, headers=(f"authorization: Bearer {API_KEY}",), admin_port=admin_port)

    return Side(name, start)


POINTSMAN_SIDE = ours()
PURE_SIDE = ours("pointsman_pure", pure=True)
