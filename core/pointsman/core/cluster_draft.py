"""A view with tentative placements on top, for deciding several requests at once."""

from pointsman.core.decisions import Dispatch
from pointsman.core.instances import Instance, InstanceId
from pointsman.core.requests import RequestView
from pointsman.core.view import Candidates, ClusterView

NONE = -1


class Draft(ClusterView):
    """On copied loads. Prefixes, and blocks in use, stay those of the view underneath."""

    __slots__ = ("_placed", "_view")

    def __init__(self, view: ClusterView) -> None:
        super().__init__(
            view.loads.copy(),
            view.prefixes,
            view.in_use,
            view.kv_capacities,
            view.served,
            view.address_hashes,
        )
        self._view = view
        self._placed: dict[str, int] = {}

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

    def candidates(self, model: str) -> Candidates:
        return self._view.candidates(model)

    def instance(self, slot: int) -> Instance:
        return self._view.instance(slot)

    def slot_of(self, instance: InstanceId) -> int | None:
        return self._view.slot_of(instance)

    def placed(self, model: str) -> int:
        return self._view.placed(model) + self._placed.get(model, 0)
