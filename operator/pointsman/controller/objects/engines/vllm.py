"""vLLM. Flags and variables as in 0.32's `vllm/engine/arg_utils.py`, `vllm/entrypoints/launchers/cli_args.py` and
`vllm/envs.py`; what it does with them is in `docs/vllm.md` as far as it was seen.

Several nodes are joined by its multiprocessing executor (`--nnodes`, `--node-rank`, `--master-addr`, `--headless`), which
needs nothing beside vLLM itself. LeaderWorkerSet's controller sets LWS_LEADER_ADDRESS and LWS_WORKER_INDEX.
"""

from pointsman.api.resources.engine import KvConnector
from pointsman.controller.objects.canonical import canonical
from pointsman.controller.objects.engines.launch import (
    BOOTSTRAP_PORT,
    POD_IP,
    SIDE_CHANNEL_PORT,
    Launch,
    Start,
)
from pointsman.core.instances import Role

CONNECTORS = {
    KvConnector.NIXL: "NixlConnector",
    KvConnector.MOONCAKE: "MooncakeConnector",
    KvConnector.LMCACHE: "LMCacheConnectorV1",
}
# Names only, as far as NIXL is concerned: whatever it says, an instance can lend and pull, so roles may change later.
KV_ROLES = {Role.PREFILL: "kv_producer", Role.DECODE: "kv_consumer", Role.MIXED: "kv_both"}


def launch(start: Start) -> Launch:
    pool = start.pool
    connector = pool.engine.connector
    degrees = pool.parallelism
    common = [
        start.files.path,
        f"--served-model-name={pool.model.name}",
        "--host=0.0.0.0",
        f"--port={pool.engine.port}",
        f"--shutdown-timeout={start.grace.engine_s}",
    ]
    if start.files.revision:
        common.append(f"--revision={start.files.revision}")
    if pool.model.context_tokens:
        common.append(f"--max-model-len={pool.model.context_tokens}")
    for flag, degree in (
        ("--tensor-parallel-size", degrees.tensor),
        ("--pipeline-parallel-size", degrees.pipeline),
        ("--data-parallel-size", degrees.data),
    ):
        if degree > 1:
            common.append(f"{flag}={degree}")
    if connector in CONNECTORS:
        role = "kv_both" if connector is KvConnector.LMCACHE else KV_ROLES[pool.role]
        transfer = {"kv_connector": CONNECTORS[connector], "kv_role": role}
        common.append(f"--kv-transfer-config={canonical(transfer)}")
    if start.files.adapters:
        common += ["--enable-lora", "--lora-modules"]
        common += [f"{name}={path}" for name, path in start.files.adapters.items()]
    leader, worker = _nodes(start)
    routed = connector in {KvConnector.NIXL, KvConnector.MOONCAKE}
    return Launch(
        command=("vllm", "serve"),
        arguments=(*common, *leader),
        worker_arguments=(*common, *worker) if worker else None,
        environment=_environment(connector),
        busy_metrics=("vllm:num_requests_running", "vllm:num_requests_waiting"),
        router_connector=connector.value if routed else "none",
        bootstrap_port=BOOTSTRAP_PORT if connector is KvConnector.MOONCAKE else None,
    )


def _nodes(start: Start) -> tuple[list[str], list[str]]:
    """What leader and workers are told beside what all are."""
    nodes = start.pool.parallelism.nodes
    if nodes == 1:
        return [], []
    shared = [f"--nnodes={nodes}", "--master-addr=$(LWS_LEADER_ADDRESS)"]
    return [*shared, "--node-rank=0"], [*shared, "--node-rank=$(LWS_WORKER_INDEX)", "--headless"]


def _environment(connector: KvConnector) -> dict[str, str]:
    if connector is KvConnector.NIXL:
        return {
            "VLLM_NIXL_SIDE_CHANNEL_HOST": POD_IP,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(SIDE_CHANNEL_PORT),
        }
    if connector is KvConnector.MOONCAKE:
        return {"VLLM_HOST_IP": POD_IP, "VLLM_MOONCAKE_BOOTSTRAP_PORT": str(BOOTSTRAP_PORT)}
    return {}
