"""Names that the controller writes and routers read: API group, labels and annotations."""

from typing import Final

GROUP = "pointsman.io"
VERSION = "v1alpha1"
API_VERSION: Final = "pointsman.io/v1alpha1"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "pointsman"
"""Value of MANAGED_BY, and the field manager of server-side apply."""
COMPONENT = "app.kubernetes.io/component"
ENGINE_COMPONENT = "engine"
ROUTER_COMPONENT = "router"

MODEL_SERVICE = f"{GROUP}/model-service"
POOL = f"{GROUP}/pool"
"""The pool's name in its ModelService."""
INSTANCE_POOL = f"{GROUP}/instance-pool"
"""The InstancePool's name: one pool has as many as it names accelerator shapes."""
INSTANCE = f"{GROUP}/instance"
ROLE = f"{GROUP}/role"
"""What the instance does now. It may change while the pod lives, so it is in no selector."""

PORT = f"{GROUP}/port"
"""Annotation: where the engine serves HTTP."""
CONNECTOR = f"{GROUP}/connector"
"""Annotation: how routers speak to the engine about KV: `none`, `nixl`, `mooncake` or `sglang`."""
BOOTSTRAP_PORT = f"{GROUP}/bootstrap-port"
"""Annotation: of Mooncake's and SGLang's prefill instances."""
TRANSFER_GROUP = f"{GROUP}/transfer-group"
"""Annotation: instances exchange KV within one group only."""
MODEL = f"{GROUP}/model"
"""Annotation: the model's name as the engine was told it. Another one than its ModelService's means a change under way."""
ADAPTERS = f"{GROUP}/adapters"
"""Annotation: names of the LoRA adapters that the engine was given, with commas between."""

MODEL_SERVICE_NAME_LENGTH = 24
SHORT_NAME_LENGTH = 15
"""Of pools and accelerator shapes: `<service>-<pool>-<shape>-<id>` is a label value, which has at most 63 characters."""


def engine_selector() -> dict[str, str]:
    """Labels of every pod that routers look at."""
    return {MANAGED_BY: MANAGER, COMPONENT: ENGINE_COMPONENT}
