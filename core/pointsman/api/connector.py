"""The connectors that configurations name, apart from the configurations: whoever only names one need not read those."""

from enum import StrEnum


class Connector(StrEnum):
    """How an engine exchanges KV blocks with others."""

    NONE = "none"
    NIXL = "nixl"
    MOONCAKE = "mooncake"
    SGLANG = "sglang"
