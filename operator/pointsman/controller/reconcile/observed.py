"""What the shell gathers before it asks what to do. Objects are as the API server gave them, managedFields of
InstancePools included, which tell who has scaled them.

Everything here may be stale: names of new instances follow from what was seen and deletions name a uid, so acting twice on
one view does nothing twice. But a view must not be older than the shell's own last writes to this object's children, or what
was made or removed a moment ago is made or removed once more before it is put right. What is missing because it could not be read must stop the
pass in the shell, not look like an empty list: absent children would be made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman.controller.reconcile.actions import Object


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the cluster can do, probed at the start and now and then, and what the operator was told when it was started."""

    leader_worker_sets: bool = False
    """Whether `leaderworkerset.x-k8s.io/v1` is served."""
    own_image: str = ""
    """The operator's own image, which simulated engines run when their spec names none."""
    own_pull_secrets: tuple[str, ...] = ()
    """Names of the Secrets with which it is pulled, looked for in the namespace of those who run it."""
    engine_peers: tuple[Object, ...] = ()
    """NetworkPolicyPeers that may reach engines, beside engines; empty: the operator writes no policies."""


@dataclass(frozen=True, slots=True)
class ObservedPool:
    """An InstancePool with all that belongs to it.

    Children are listed by the label `pointsman.io/instance-pool` in the pool's namespace, whoever owns them.
    """

    pool: Object
    workloads: tuple[Object, ...] = ()
    """Deployments and LeaderWorkerSets, with apiVersion and kind."""
    pods: tuple[Object, ...] = ()
    revisions: tuple[Object, ...] = ()
    """ControllerRevisions."""
    config_maps: tuple[Object, ...] = ()
    disruption_budgets: tuple[Object, ...] = ()
    network_policies: tuple[Object, ...] = ()
    profiles: tuple[Object, ...] = ()
    """EngineProfiles; at least the one that the pool names."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Requests in each instance, by its name, where that is known."""
    refused: str = ""
    """What the API server said when it refused an action of the last pass for what it holds (400, 403, 422), not for
    being busy or newer; empty otherwise. People read it in the condition Degraded."""
    facts: ClusterFacts = ClusterFacts()


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What the `/ready` of a router replica said."""

    pod: str
    ready: bool
    generations: Mapping[str, int] = field(default_factory=dict)
    """Loaded generation of each ModelService, by "namespace/name"."""


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What only the shared state knows of a ModelService."""

    as_of: float
    """Seconds since the epoch."""
    slo_attainment: float
    """Share of offered requests within their limits, lately."""


@dataclass(frozen=True, slots=True)
class ObservedService:
    """A ModelService with its InstancePools and what its conditions tell of."""

    service: Object
    pools: tuple[Object, ...] = ()
    """InstancePools by the label `pointsman.io/model-service` of its namespace, whoever owns them."""
    profiles: tuple[Object, ...] = ()
    """Every EngineProfile."""
    routers: tuple[RouterReport, ...] | None = None
    """None: nobody asked them, or none could be found out about."""
    live: LiveFigures | None = None
    refused: str = ""
    """As in ObservedPool."""
    facts: ClusterFacts = ClusterFacts()
