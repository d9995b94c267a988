"""What is to be done, from what was seen and the time: pure, so that every decision can be tabled and replayed."""

from pointsman.controller.reconcile.actions import Action
from pointsman.controller.reconcile.observed import ObservedPool, ObservedService
from pointsman.controller.reconcile.pool import reconcile_pool
from pointsman.controller.reconcile.service import reconcile_service


def reconcile(observed: ObservedPool | ObservedService, now: float) -> list[Action]:
    """Everything to be done now, in this order; empty when all is as it should be."""
    if isinstance(observed, ObservedPool):
        return reconcile_pool(observed, now)
    return reconcile_service(observed, now)


__all__ = ["reconcile"]
