"""What one simulated engine instance is told at its start."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pointsman.core.perf import EngineProfile


class Flavour(StrEnum):
    """Whose server it behaves as."""

    VLLM = "vllm"
    SGLANG = "sglang"


class KvRole(StrEnum):
    """Its part in disaggregated serving."""

    NONE = "none"
    BOTH = "both"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class KvConnector(StrEnum):
    """How KV travels between instances."""

    NIXL = "nixl"
    MOONCAKE = "mooncake"
    SGLANG = "sglang"


class KvLoadFailure(StrEnum):
    """What happens to a request whose KV cannot be fetched, vLLM's `kv_load_failure_policy`."""

    FAIL = "fail"
    RECOMPUTE = "recompute"


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """KV transfer between instances."""

    role: KvRole = KvRole.BOTH
    connector: KvConnector = KvConnector.NIXL
    host: str = "127.0.0.1"
    """Where other instances reach this one's side channel or bootstrap server."""
    port: int = 0
    """0: any free one."""
    lease_s: float = 30.0
    """Virtual seconds that KV is kept for whoever is to fetch it."""
    handshake_s: float = 0.0
    """Virtual seconds that the first pull from an instance takes longer."""
    load_failure: KvLoadFailure = KvLoadFailure.FAIL
    connect_timeout_s: float = 5.0
    """Real seconds to wait for another instance's side channel."""
    partner_timeout_s: float = 30.0
    """Real seconds a leg waits for its partner (SGLang rooms, Mooncake transfers)."""


@dataclass(frozen=True, slots=True)
class KvEventOptions:
    """KV events over ZMQ, vLLM's `--kv-events-config`."""

    endpoint: str
    replay_endpoint: str | None = None
    topic: str = ""
    buffer_steps: int = 10_000


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """One instance. Lengths in tokens."""

    profile: EngineProfile
    model: str
    served_names: tuple[str, ...]
    lora_names: tuple[str, ...] = ()
    flavour: Flavour = Flavour.VLLM
    host: str = "127.0.0.1"
    port: int = 8000
    speed: float = 1.0
    """Virtual seconds per real second."""
    seed: int = 0
    """Part of what every token is a function of: instances that continue each other's answers share it."""
    mean_output_tokens: float = 256.0
    """Mean length of answers that end by themselves; shared like the seed."""
    chunk_tokens: int = 2048
    max_sequences: int = 0
    """0: the profile's."""
    kv_capacity_tokens: int = 0
    """0: the profile's."""
    max_model_len: int = 0
    """0: the profile's."""
    priority_scheduling: bool = False
    prefix_caching: bool = True
    tokens_per_event: int = 1
    prompt_tokens_details: bool = True
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    transfer: TransferOptions = TransferOptions()
    kv_events: KvEventOptions | None = None
    start_up_s: float = 0.0
    """Real seconds during which it answers 503 to everything, as while weights load."""

    def longest_context(self) -> int:
        """Longest prompt plus answer."""
        block = self.profile.block_size
        capacity = (self.kv_capacity_tokens or self.profile.kv_capacity_tokens) // block * block
        return min(self.max_model_len or self.profile.max_context_tokens or capacity, capacity)


def read_keys(path: Path) -> tuple[str, ...]:
    """API keys of a file, one a line; empty lines and lines that begin with # do not count."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
