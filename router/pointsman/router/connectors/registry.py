"""Connectors by the name that the configuration uses."""

from collections.abc import Mapping
from types import MappingProxyType

from pointsman.router.connectors.connector import Connector
from pointsman.router.connectors.mooncake import Mooncake
from pointsman.router.connectors.nixl import Nixl
from pointsman.router.connectors.sglang import Sglang

CONNECTORS: Mapping[str, Connector] = MappingProxyType(
    {"nixl": Nixl(), "mooncake": Mooncake(), "sglang": Sglang()}
)
