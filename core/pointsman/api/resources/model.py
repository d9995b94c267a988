"""What is served: the model, its adapters, and where their files come from."""

from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.resources.base import Part, Rule, map_list, told
from pointsman.api.resources.kubernetes import DnsName, ImagePullPolicy, SecretKey

ServedName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@+]*$", min_length=1, max_length=128),
    told("must be letters, digits and any of -._:/@+, with a letter or digit in front, like `org/model-8b`"),
]
"""A name of the `model` field of requests."""


FolderInside = Annotated[
    str,
    Field(pattern=r"^[^/].*$", max_length=1024),
    told("must be a path inside of the volume, without a slash in front"),
]


class HubSource(Part):
    """A repository on the Hugging Face hub; the engine downloads it when it starts."""

    id: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)?$", max_length=192),
        told("must be a repository's id, like `meta-llama/Llama-3.1-8B-Instruct`, not its address"),
    ]
    """Like `meta-llama/Llama-3.1-8B-Instruct`."""
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._/]*$", max_length=128)] | None = None
    """Branch, tag or commit. Default: what the repository's main branch is when the engine starts."""
    token_secret: SecretKey | None = None
    """The access token, for repositories that need one. Default: none."""


class ClaimSource(Part):
    """A PersistentVolumeClaim of the same namespace, mounted read-only."""

    claim_name: DnsName
    """The claim's name. Instances on several nodes need one that many nodes may read."""
    path: FolderInside | None = None
    """Folder of the model's files inside the volume. Default: its root."""


class ImageSource(Part):
    """An OCI image that holds the model's files, mounted read-only as an image volume (Kubernetes 1.35, or 1.33 with
    the feature gate ImageVolume).
    """

    reference: Annotated[str, Field(min_length=1, max_length=512)]
    """The image, like `registry.example.com/models/llama-3.1-8b:1`."""
    pull_policy: ImagePullPolicy | None = None
    """When it is pulled. Default: as for containers."""
    path: FolderInside | None = None
    """Folder of the model's files inside the image. Default: its root."""


class ModelSource(Part):
    """Where files come from: exactly one of hub, pvc and image."""

    hub: HubSource | None = None
    """The Hugging Face hub, from which the engine downloads."""
    pvc: ClaimSource | None = None
    """A volume that is already filled."""
    image: ImageSource | None = None
    """An OCI image."""

    rules: ClassVar = (
        Rule(
            "[has(self.hub), has(self.pvc), has(self.image)].filter(given, given).size() == 1",
            "exactly one of hub, pvc and image must be given",
        ),
    )


class AdapterSpec(Part):
    """A LoRA adapter that every instance offers beside its model."""

    name: ServedName
    """What clients ask for."""
    source: ModelSource | None = None
    """Where its files come from. Needed by all engines but the simulated one."""


class ModelSpec(Part):
    """The model that is served."""

    name: ServedName
    """What clients ask for in the `model` field of requests; engines are told to answer to it. One router serves it
    for one ModelService only: the older one keeps the name."""
    source: ModelSource | None = None
    """Where its files come from. Needed by all engines but the simulated one."""
    aliases: Annotated[
        tuple[ServedName, ...],
        Field(max_length=16),
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Other names that clients may use; engines see the model's name."""
    context_tokens: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """Longest prompt plus answer. Engines are started with this limit, and routers refuse prompts that are surely
    longer. 0: what the model's own files say."""


Adapters = Annotated[tuple[AdapterSpec, ...], Field(max_length=64), map_list()]
