"""The models an instance answers to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pointsman.simengine.errors import not_found


@dataclass(frozen=True, slots=True)
class Registry:
    """Served names of the base model, and its LoRA adapters."""

    root: str
    served_names: tuple[str, ...]
    lora_names: tuple[str, ...]
    longest_context: int
    owner: str = "vllm"

    def resolve(self, name: str | None) -> tuple[str, str | None]:
        """(The name to answer with, the LoRA adapter or None). Raises ApiError 404."""
        if not name or name in self.served_names:
            return self.served_names[0], None
        if name in self.lora_names:
            return name, name
        raise not_found(
            f"The model `{name}` does not exist. Valid aliases: {', '.join(self.served_names)}.", "model"
        )

    def cards(self, created: int) -> dict[str, Any]:
        """The answer of `/v1/models`."""
        return {"object": "list", "data": list(self._cards(created))}

    def _cards(self, created: int) -> Iterator[dict[str, Any]]:
        for name in self.served_names:
            yield self._card(name, created, self.root, None, self.longest_context)
        for name in self.lora_names:
            yield self._card(name, created, name, self.served_names[0], None)

    def _card(
        self, name: str, created: int, root: str, parent: str | None, longest: int | None
    ) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": self.owner,
            "root": root,
            "parent": parent,
            "max_model_len": longest,
            "permission": [
                {
                    "id": f"modelperm-{uuid4().hex[:16]}",
                    "object": "model_permission",
                    "created": created,
                    "allow_create_engine": False,
                    "allow_sampling": True,
                    "allow_logprobs": True,
                    "allow_search_indices": False,
                    "allow_view": True,
                    "allow_fine_tuning": False,
                    "organization": "*",
                    "group": None,
                    "is_blocking": False,
                }
            ],
        }
