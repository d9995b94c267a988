"""SGLang. Flags as in 0.5.23's `sglang/srt/arg_groups/fields`.

Its data parallelism is that of attention, inside the tensor parallel group, so that group is tensor x data wide.
"""

from pointsman.api.resources.engine import KvConnector
from pointsman.controller.objects.engines.launch import BOOTSTRAP_PORT, Launch, Start
from pointsman.core.instances import Role

RENDEZVOUS_PORT = 20000
BACKENDS = {KvConnector.NIXL: "nixl", KvConnector.MOONCAKE: "mooncake"}


def launch(start: Start) -> Launch:
    pool = start.pool
    degrees = pool.parallelism
    apart = pool.engine.connector is not KvConnector.NONE and pool.role is not Role.MIXED
    common = [
        f"--model-path={start.files.path}",
        f"--served-model-name={pool.model.name}",
        "--host=0.0.0.0",
        f"--port={pool.engine.port}",
        "--enable-metrics",
    ]
    if start.files.revision:
        common.append(f"--revision={start.files.revision}")
    if pool.model.context_tokens:
        common.append(f"--context-length={pool.model.context_tokens}")
    for flag, degree in (
        ("--tp-size", degrees.tensor * degrees.data),
        ("--attention-data-parallel-size", degrees.data),
        ("--pp-size", degrees.pipeline),
    ):
        if degree > 1:
            common.append(f"{flag}={degree}")
    if apart:
        common.append(f"--disaggregation-mode={pool.role.value}")
        common.append(f"--disaggregation-bootstrap-port={BOOTSTRAP_PORT}")
        if backend := BACKENDS.get(pool.engine.connector):
            common.append(f"--disaggregation-transfer-backend={backend}")
    if start.files.adapters:
        common += ["--enable-lora", "--lora-paths"]
        common += [f"{name}={path}" for name, path in start.files.adapters.items()]
    leader, worker = _nodes(start)
    return Launch(
        command=("python3", "-m", "sglang.launch_server"),
        arguments=(*common, *leader),
        worker_arguments=(*common, *worker) if worker else None,
        busy_metrics=("sglang:num_running_reqs", "sglang:num_queue_reqs"),
        router_connector="sglang" if apart else "none",
        bootstrap_port=BOOTSTRAP_PORT if apart else None,
    )


def _nodes(start: Start) -> tuple[list[str], list[str]]:
    nodes = start.pool.parallelism.nodes
    if nodes == 1:
        return [], []
    shared = [f"--nnodes={nodes}", f"--dist-init-addr=$(LWS_LEADER_ADDRESS):{RENDEZVOUS_PORT}"]
    return [*shared, "--node-rank=0"], [*shared, "--node-rank=$(LWS_WORKER_INDEX)"]
