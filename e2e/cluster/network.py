"""Addresses of a cluster, and the links between its nodes.

Every cluster uses the same addresses: no route leads out of its namespace, so no two ever meet. The control plane has
the bridge's address; every node is a network namespace with one leg on the bridge, and knows where the others' pods are.

    10.96.0.0/16  Services        10.97.0.1  control plane, DNS
    10.98.I.0/24  pods of node I  10.97.0.1I node I
"""

from dataclasses import dataclass

from e2e.cluster.sandbox import Sandbox

SERVICES = "10.96.0.0/16"
PODS = "10.98.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
CONTROL_PLANE = "10.97.0.1"
API_SERVER_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"
MAX_NODES = 10


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where node number `index` and its pods are. Raises ValueError when there are too many."""

    index: int

    def __post_init__(self) -> None:
        if self.index >= MAX_NODES:
            raise ValueError(f"a cluster has at most {MAX_NODES} nodes: each has one digit of an address")

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        return f"10.97.0.1{self.index}"

    @property
    def pods(self) -> str:
        return f"10.98.{self.index}.0/24"


def links(nodes: list[NodeAddress]) -> list[str]:
    """Commands for `ip -batch` that make the bridge and put the nodes on it."""
    commands = [
        "link set lo up",
        "link add br0 type bridge",
        f"addr add {CONTROL_PLANE}/24 dev br0",
        "link set br0 up",
    ]
    for node in nodes:
        commands += [
            f"netns add {node.name}",
            f"link add {node.name} type veth peer name eth0 netns {node.name}",
            f"link set {node.name} master br0 up",
            f"route add {node.pods} via {node.address}",
        ]
    if nodes:
        # The control plane has no kube-proxy of its own: the first node's translates Services for it.
        commands.append(f"route add {SERVICES} via {nodes[0].address}")
    return commands


def node_links(node: NodeAddress, nodes: list[NodeAddress]) -> list[str]:
    """Commands for `ip -batch` inside a node's namespace."""
    return [
        "link set lo up",
        f"addr add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {CONTROL_PLANE}",
        *(f"route add {other.pods} via {other.address}" for other in nodes if other != node),
    ]


def connect(sandbox: Sandbox, nodes: list[NodeAddress]) -> None:
    """Make the network of a cluster inside a sandbox. Raises CommandError."""
    sandbox.run(["ip", "-batch", "-"], stdin="\n".join(links(nodes)))
    for node in nodes:
        sandbox.run(["ip", "-batch", "-"], stdin="\n".join(node_links(node, nodes)), node=node.name)
        # Pods of one node that talk through a Service share a bridge: their packets must pass the node's rules, too.
        sandbox.run(
            [
                *("sysctl", "-q", "-e", "-w", "net.ipv4.ip_forward=1"),
                "net.bridge.bridge-nf-call-iptables=1",
            ],
            node=node.name,
        )
    sandbox.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
