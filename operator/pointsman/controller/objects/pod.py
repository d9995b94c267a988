"""The pod of an engine, from all that an InstancePool says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.api.resources import names
from pointsman.api.resources.engine import EngineType
from pointsman.api.resources.instance_pool import InstancePoolSpec
from pointsman.controller.objects.drain import pre_stop, worker_pre_stop
from pointsman.controller.objects.engines import sglang, simulated, vllm
from pointsman.controller.objects.engines.launch import Launch, Start
from pointsman.controller.objects.merge import TemplateError, merge, merge_items
from pointsman.controller.objects.meta import WORKER_COMPONENT, pool_labels

CONTAINER = "engine"
LAUNCHES = {
    EngineType.VLLM: vllm.launch,
    EngineType.SGLANG: sglang.launch,
    EngineType.SIMULATED: simulated.launch,
}
STARTUP_PERIOD_S = 2
# Not the rollout's deadline: another deadline must not be another pod. Loading the largest models takes less.
LONGEST_START_S = 4 * 3600
SHARED_MEMORY_OF_MANY = "16Gi"
# What the "restricted" Pod Security Standard asks for and every engine image bears.
CAREFUL: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# The project's own image bears this as well. Engines' images run as root and write caches where they like.
RESTRICTED: Mapping[str, Any] = {**CAREFUL, "readOnlyRootFilesystem": True, "runAsNonRoot": True}


@dataclass(frozen=True, slots=True)
class Image:
    """An image and the names of the Secrets with which it is pulled."""

    name: str
    pull_secrets: tuple[str, ...] = ()


def launch_of(start: Start) -> Launch:
    return LAUNCHES[start.pool.engine.type](start)


def engine_pod(
    pool: str,
    start: Start,
    launch: Launch,
    image: Image,
    extra: Sequence[Mapping[str, Any]] = (),
    *,
    worker: bool = False,
) -> dict[str, Any]:
    """The pod template of an instance, or of the other nodes of one. `extra` are volumes, each with a `mountPath`.

    What tells instances apart is added by `workload`. Raises TemplateError where the pool's own template cannot be merged.
    """
    spec = start.pool
    component = WORKER_COMPONENT if worker else names.ENGINE_COMPONENT
    labels = {**pool_labels(pool, spec), names.COMPONENT: component, names.ROLE: spec.role.value}
    annotations = {names.PORT: str(spec.engine.port), names.CONNECTOR: launch.router_connector}
    annotations[names.MODEL] = spec.model.name
    if spec.engine.adapters:
        annotations[names.ADAPTERS] = ",".join(adapter.name for adapter in spec.engine.adapters)
    if launch.bootstrap_port is not None:
        annotations[names.BOOTSTRAP_PORT] = str(launch.bootstrap_port)
    volumes, mounts = _volumes(start, extra)
    pod = {
        "automountServiceAccountToken": False,
        # A Service named `vllm` would otherwise set VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": start.grace.total_s,
        "containers": [_container(start, launch, image.name, mounts, worker=worker)],
        **_placement(pool, spec),
    }
    if volumes:
        pod["volumes"] = volumes
    if image.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in image.pull_secrets]
    if spec.engine.service_account_name:
        pod["serviceAccountName"] = spec.engine.service_account_name
    template: dict[str, Any] = {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}
    if not spec.template:
        return template
    return _found_again(merge(template, spec.template), labels, annotations)


def _found_again(
    merged: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]
) -> dict[str, Any]:
    """With what routers, selectors and this operator find and address a pod by, whatever the pool's template says of it."""
    meta = merged.get("metadata", {})
    if not isinstance(meta, Mapping) or not all(
        isinstance(meta.get(part, {}), Mapping) for part in ("labels", "annotations")
    ):
        raise TemplateError("template.metadata: must be an object, and so must its labels and annotations")
    own = {
        "labels": {**meta.get("labels", {}), **labels},
        "annotations": {**meta.get("annotations", {}), **annotations},
    }
    return {**merged, "metadata": {**meta, **own}}


def _container(
    start: Start, launch: Launch, image: str, mounts: list[Mapping[str, Any]], *, worker: bool
) -> dict[str, Any]:
    spec = start.pool
    own = launch.worker_arguments if worker and launch.worker_arguments is not None else launch.arguments
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image,
        "args": [*own, *spec.engine.args, *spec.args],
        "env": _environment(start, launch),
        "securityContext": dict(RESTRICTED if spec.engine.type is EngineType.SIMULATED else CAREFUL),
    }
    if launch.command:
        container["command"] = list(launch.command)
    if spec.engine.image_pull_policy:
        container["imagePullPolicy"] = spec.engine.image_pull_policy.value
    if mounts:
        container["volumeMounts"] = mounts
    if resources := _resources(spec):
        container["resources"] = resources
    if worker:
        container["lifecycle"] = {"preStop": worker_pre_stop(start.grace)}
    else:
        container["ports"] = [{"name": "http", "containerPort": spec.engine.port, "protocol": "TCP"}]
        container |= _probes(launch, spec)
        container["lifecycle"] = {"preStop": pre_stop(spec.engine.port, launch.busy_metrics, start.grace)}
    return container


def _environment(start: Start, launch: Launch) -> list[dict[str, Any]]:
    base: list[Mapping[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *({"name": name, "value": value} for name, value in launch.environment.items()),
        *start.files.environment,
    ]
    given = {variable.name: variable.to_wire() for variable in (*start.pool.engine.env, *start.pool.env)}
    # One that is given replaces the other whole: a value and a source of one name would be refused.
    kept = [variable for variable in base if variable["name"] not in given]
    return merge_items(kept, list(given.values()), "name", "env")


def _probes(launch: Launch, spec: InstancePoolSpec) -> dict[str, Any]:
    ask = {"httpGet": {"path": launch.health_path, "port": spec.engine.port}}
    return {
        "startupProbe": {
            **ask,
            "periodSeconds": STARTUP_PERIOD_S,
            "timeoutSeconds": 2,
            "failureThreshold": LONGEST_START_S // STARTUP_PERIOD_S,
        },
        "readinessProbe": {**ask, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3},
        # Late and patient: an engine that is busy is not dead, and loading it again takes minutes.
        "livenessProbe": {**ask, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _resources(spec: InstancePoolSpec) -> dict[str, Any]:
    found = spec.resources.to_wire() if spec.resources is not None else {}
    if spec.accelerator.count:
        count = str(spec.accelerator.count)
        found["limits"] = {**found.get("limits", {}), spec.accelerator.resource: count}
        if "requests" in found:
            found["requests"] = {**found["requests"], spec.accelerator.resource: count}
    return found


def _volumes(
    start: Start, extra: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    spec = start.pool
    volumes = list(start.files.volumes)
    mounts = list(start.files.mounts)
    for volume in extra:
        volumes.append({name: value for name, value in volume.items() if name != "mountPath"})
        mounts.append({"name": volume["name"], "mountPath": volume["mountPath"], "readOnly": True})
    size = spec.engine.shm_size or (SHARED_MEMORY_OF_MANY if spec.accelerator.count > 1 else None)
    if size:
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    return volumes, mounts


def _placement(pool: str, spec: InstancePoolSpec) -> dict[str, Any]:
    shape = spec.accelerator
    placed: dict[str, Any] = {}
    if shape.node_selector:
        placed["nodeSelector"] = dict(shape.node_selector)
    if shape.tolerations:
        placed["tolerations"] = [toleration.to_wire() for toleration in shape.tolerations]
    if spec.topology.spread:
        placed["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {names.INSTANCE_POOL: pool}},
            }
            for key in spec.topology.spread
        ]
    if spec.topology.together:
        term = {
            "topologyKey": spec.topology.together,
            "labelSelector": {"matchLabels": {names.MODEL_SERVICE: spec.model_service}},
        }
        preferred = [{"weight": 100, "podAffinityTerm": term}]
        placed["affinity"] = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return placed
