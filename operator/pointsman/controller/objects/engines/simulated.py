"""Pointsman's own simulated engine: `pointsman engine`, from the project's image, whose entry point is `pointsman`."""

from pointsman.api.resources.engine import KvConnector
from pointsman.controller.objects.engines.launch import (
    BOOTSTRAP_PORT,
    POD_IP,
    SIDE_CHANNEL_PORT,
    Launch,
    Start,
)

AS_SGLANG = ("sglang:num_running_reqs", "sglang:num_queue_reqs")
AS_VLLM = ("vllm:num_requests_running", "vllm:num_requests_waiting")


def launch(start: Start) -> Launch:
    pool = start.pool
    connector = pool.engine.connector
    arguments = [
        "engine",
        f"--model={pool.model.name}",
        f"--served-model-name={pool.model.name}",
        "--host=0.0.0.0",
        f"--port={pool.engine.port}",
        f"--grace={start.grace.engine_s}",
    ]
    if start.profile_file:
        arguments.append(f"--profile={start.profile_file}")
    if pool.model.context_tokens:
        arguments.append(f"--max-model-len={pool.model.context_tokens}")
    arguments += [f"--lora={adapter.name}" for adapter in pool.engine.adapters]
    if connector is KvConnector.NONE:
        arguments.append("--kv-role=none")
        port = None
    else:
        port = SIDE_CHANNEL_PORT if connector is KvConnector.NIXL else BOOTSTRAP_PORT
        # Both, as real NIXL does whatever it is told: so roles may change while it runs.
        arguments += [
            f"--kv-connector={connector.value}",
            "--kv-role=both",
            f"--kv-host={POD_IP}",
            f"--kv-port={port}",
        ]
    sglang = connector is KvConnector.SGLANG
    if sglang:
        arguments.append("--flavour=sglang")
    return Launch(
        arguments=tuple(arguments),
        # An instance that spans nodes is one simulated engine; its workers only hold their place.
        worker_arguments=tuple(arguments) if pool.parallelism.nodes > 1 else None,
        busy_metrics=AS_SGLANG if sglang else AS_VLLM,
        router_connector=connector.value,
        bootstrap_port=port if port == BOOTSTRAP_PORT else None,
    )
