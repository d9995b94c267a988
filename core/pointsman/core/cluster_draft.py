"""A view with tentative placements on top, for deciding several requests at once."""

import numpy as np
from numpy.typing import NDArray

from pointsman.core.blocks_in_use import BlocksInUse
from pointsman.core.decisions import Dispatch
from pointsman.core.instances import Instance, InstanceId
from pointsman.core.prefix import PrefixIndex
from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView
from pointsman.core.slots import PerSlot
from pointsman.core.view import Candidates, ClusterView

NONE = -1


class Draft:
    """Implements `ClusterView` on copied loads. Prefixes, and blocks in use, stay those of the view underneath."""

    __slots__ = ("_placed", "_view", "loads")

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._placed: dict[str, int] = {}
        self.loads = view.loads.copy()

    def place(self, request: RequestView, dispatch: Dispatch) -> None:
        """Account a decision as if it were carried out already."""
        prefill = self._slot(dispatch.prefill)
        decode = self._slot(dispatch.decode)
        if prefill != NONE or decode != NONE:
            self.loads.add(request, prefill, decode, dispatch.cached_tokens)
        self._placed[request.model] = self._placed.get(request.model, 0) + 1

    def _slot(self, instance: InstanceId | None) -> int:
        slot = None if instance is None else self._view.slot_of(instance)
        return NONE if slot is None else slot

    @property
    def prefixes(self) -> PrefixIndex:
        return self._view.prefixes

    @property
    def in_use(self) -> BlocksInUse:
        return self._view.in_use

    @property
    def kv_capacities(self) -> PerSlot:
        return self._view.kv_capacities

    @property
    def served(self) -> Served:
        return self._view.served

    @property
    def address_hashes(self) -> NDArray[np.uint64]:
        return self._view.address_hashes

    def candidates(self, model: str) -> Candidates:
        return self._view.candidates(model)

    def instance(self, slot: int) -> Instance:
        return self._view.instance(slot)

    def slot_of(self, instance: InstanceId) -> int | None:
        return self._view.slot_of(instance)

    def placed(self, model: str) -> int:
        return self._view.placed(model) + self._placed.get(model, 0)
