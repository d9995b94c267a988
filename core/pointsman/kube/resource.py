"""Which kind of object, and where the API server keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

Object = Mapping[str, Any]
"""A Kubernetes object as JSON holds it."""


class Key(NamedTuple):
    """An object's name within its kind; `namespace` is empty for kinds that have none."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind and its address in the API."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL's path: a collection without `name`; every namespace's without `namespace`."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


def key_of(obj: Object) -> Key:
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
MODEL_SERVICES = Resource("pointsman.io", "v1alpha1", "modelservices", "ModelService")
INSTANCE_POOLS = Resource("pointsman.io", "v1alpha1", "instancepools", "InstancePool")
ENGINE_PROFILES = Resource("pointsman.io", "v1alpha1", "engineprofiles", "EngineProfile", namespaced=False)

KNOWN = (
    PODS,
    SERVICES,
    CONFIG_MAPS,
    SECRETS,
    DEPLOYMENTS,
    CONTROLLER_REVISIONS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    LEADER_WORKER_SETS,
    LEASES,
    EVENTS,
    MODEL_SERVICES,
    INSTANCE_POOLS,
    ENGINE_PROFILES,
)
"""Everything that Pointsman reads or writes."""


def resource_of(api_version: str, kind: str) -> Resource:
    """The known resource of an object's `apiVersion` and `kind`. Raises KeyError."""
    for resource in KNOWN:
        if resource.api_version == api_version and resource.kind == kind:
            return resource
    raise KeyError(f"{api_version} {kind} is nothing that Pointsman handles")
