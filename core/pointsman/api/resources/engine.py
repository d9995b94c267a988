"""The inference server: which one, its image, and how it is started."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.resources.base import Part, Rule
from pointsman.api.resources.kubernetes import (
    Arguments,
    DnsName,
    Environment,
    ImagePullPolicy,
    PullSecrets,
    Quantity,
)
from pointsman.api.resources.model import Adapters


class EngineType(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    SIMULATED = "simulated"


class KvConnector(StrEnum):
    """How instances exchange KV blocks."""

    NONE = "none"
    NIXL = "nixl"
    MOONCAKE = "mooncake"
    LMCACHE = "lmcache"
    SGLANG = "sglang"


class EngineSpec(Part):
    """The inference server of every instance."""

    type: EngineType
    """`vllm`, `sglang`, or `simulated`: an engine without a GPU that answers as vLLM does, for trials and tests."""
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """The container image. Required for vllm and sglang; default for simulated: the operator's own image."""
    image_pull_policy: ImagePullPolicy | None = None
    """When the image is pulled. Default: Always for the tag `latest`, else IfNotPresent."""
    image_pull_secrets: PullSecrets = ()
    """Secrets with credentials for the registry."""
    args: Arguments = ()
    """Arguments after those that follow from this spec, so that they have the last word."""
    env: Environment = ()
    """Environment variables; they replace those of the same name that follow from this spec."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 8000
    """Where the engine serves HTTP in its pod."""
    connector: KvConnector = KvConnector.NONE
    """How KV gets from prefill to decode instances. `nixl` and `mooncake`: vLLM's connectors, or SGLang's transfer
    backends; `sglang`: SGLang with the backend it chooses itself; `lmcache`: KV kept in LMCache, without prefill and
    decode apart; `none`: KV stays where it is."""
    adapters: Adapters = ()
    """LoRA adapters that every instance offers beside its model."""
    shm_size: Quantity | None = None
    """Shared memory (/dev/shm), which tensor parallel processes talk through. Default: what the node gives, 64Mi;
    with more than one accelerator 16Gi."""
    grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] = 120
    """Time between the order to stop and the end: what runs is finished or moved to other instances in it."""
    service_account_name: DnsName | None = None
    """The ServiceAccount of engine pods, whose token is not mounted. Default: the namespace's `default`."""

    rules: ClassVar = (
        Rule(
            "self.type == 'simulated' || has(self.image)",
            "image is required: only simulated engines have a default",
            ".image",
            "FieldValueRequired",
        ),
        Rule(
            "self.connector != 'sglang' || self.type != 'vllm'",
            "connector 'sglang' is SGLang's own: vLLM has nixl, mooncake and lmcache",
            ".connector",
        ),
        Rule(
            "self.connector != 'lmcache' || self.type == 'vllm'",
            "connector 'lmcache' needs engine type vllm",
            ".connector",
        ),
        Rule(
            "self.type == 'simulated' || !has(self.adapters) || !self.adapters.exists(adapter, !has(adapter.source))",
            "each adapter needs a source: only simulated engines do without",
            ".adapters",
        ),
    )
