"""What the operator may do, as the chart grants it and the audit log of a full run shows it used.

A verb `create` beside `patch` is what server-side apply of a new object needs: the audit log calls it patch. `update` of
`finalizers` is asked for where the admission plugin OwnerReferencesPermissionEnforcement is on, as in OpenShift: children
keep their owner from going before them (blockOwnerDeletion). It is a right to refer to owners; no finalizer is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.kube.resource import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    ENGINE_PROFILES,
    EVENTS,
    INSTANCE_POOLS,
    LEADER_WORKER_SETS,
    LEASES,
    MODEL_SERVICES,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    Resource,
)

READ = ("list", "watch")
OWN = ("list", "watch", "create", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on one kind."""

    resource: Resource
    verbs: tuple[str, ...]
    subresource: str = ""
    names: tuple[str, ...] = ()

    def wire(self) -> Mapping[str, Any]:
        """As in a Role."""
        plural = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        rule = {"apiGroups": [self.resource.group], "resources": [plural], "verbs": list(self.verbs)}
        return {**rule, "resourceNames": list(self.names)} if self.names else rule


def in_watched_namespaces() -> tuple[Rule, ...]:
    """In every namespace with ModelServices."""
    return (
        Rule(MODEL_SERVICES, READ),
        Rule(MODEL_SERVICES, ("patch",), "status"),
        Rule(MODEL_SERVICES, ("update",), "finalizers"),
        Rule(INSTANCE_POOLS, OWN),
        Rule(INSTANCE_POOLS, ("patch",), "status"),
        Rule(INSTANCE_POOLS, ("update",), "finalizers"),
        Rule(DEPLOYMENTS, OWN),
        Rule(LEADER_WORKER_SETS, OWN),
        Rule(CONTROLLER_REVISIONS, OWN),
        Rule(CONFIG_MAPS, OWN),
        Rule(POD_DISRUPTION_BUDGETS, (*READ, "create", "patch")),  # they go with their pool
        Rule(PODS, READ),
        Rule(EVENTS, ("create", "patch")),
    )


def for_engine_policies() -> tuple[Rule, ...]:
    """In the same namespaces, where the operator is told who may reach engines."""
    return (Rule(NETWORK_POLICIES, (*READ, "create", "patch")),)  # they go with their pool


def on_the_cluster() -> tuple[Rule, ...]:
    """What lies in no namespace."""
    return (Rule(ENGINE_PROFILES, READ),)


def at_home(lease: str) -> tuple[Rule, ...]:
    """In the operator's own namespace: its Lease, and the router pods."""
    return (
        Rule(LEASES, ("create",)),
        Rule(LEASES, ("get", "update"), names=(lease,)),
        Rule(PODS, READ),
    )


def role(name: str, namespace: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """A Role, or a ClusterRole without `namespace`."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": metadata,
        "rules": [rule.wire() for rule in rules],
    }
