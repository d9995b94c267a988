"""The same instance for the same session."""

from random import Random
from typing import Final

from pointsman.core.placement.least_requests import LeastRequests
from pointsman.core.placement.policy import Pick
from pointsman.core.rendezvous import highest
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import ClusterView, Stage


class Session:
    """Rendezvous hashing of the session over the candidates: when an instance leaves, only its sessions move.

    Requests without a session go to the fewest requests.
    """

    name: Final = "session"
    reads_progress: Final = False

    def pick(self, view: ClusterView, request: RequestView, slots: Slots, stage: Stage, rng: Random) -> Pick:
        if not request.session:
            return LeastRequests().pick(view, request, slots, stage, rng)
        slot = slots.listed[highest(request.session, view.address_hashes[slots.vector])]
        return Pick(slot, 0.0, "home of its session")
