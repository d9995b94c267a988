"""Carries out what reconciling asks for."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pointsman.controller.reconcile.actions import (
    FIELD_MANAGER,
    Action,
    Apply,
    Delete,
    Event,
    Object,
    PatchStatus,
    Requeue,
)
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import ConflictError, ForbiddenError, InvalidError, KubeError, NotFoundError
from pointsman.kube.recording import EventRecorder
from pointsman.kube.resource import Resource, resource_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """Of one pass."""

    writes: int = 0
    """Without Events."""
    requeue_s: float | None = None
    """Wanted again after so long."""
    refused: str = ""
    """What the API server said when it refused an action for what it holds."""
    error: KubeError | None = None
    """What ended the pass; it is to be tried again."""
    fault: str = ""
    """A mistake in the program: nothing could be decided."""


class Applier:
    """Actions in their order. The first that fails ends the pass. Events are left with the recorder: nothing waits for them.

    Only a refusal does not keep the pass from saying how things are: status and Events come through, everything else is left.
    """

    def __init__(
        self, client: ApiClient, recorder: EventRecorder, learn: Callable[[Resource, Object], None]
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._learn = learn

    async def carry_out(self, actions: Sequence[Action]) -> Outcome:
        outcome = Outcome()
        for action in actions:
            if isinstance(action, Requeue):
                after_s = action.after_s
                outcome.requeue_s = after_s if outcome.requeue_s is None else min(outcome.requeue_s, after_s)
                continue
            if isinstance(action, Event):
                self._recorder.tell(action.about, action.type, action.reason, action.message, "Reconcile")
                continue
            if outcome.refused and isinstance(action, Apply | Delete):
                continue
            try:
                await self._act(action)
            except (InvalidError, ForbiddenError) as error:
                outcome.refused = outcome.refused or str(error)
                outcome.error = outcome.error or error
            except KubeError as error:
                outcome.error = error
                return outcome
            else:
                outcome.writes += 1
        return outcome

    async def _act(self, action: Apply | Delete | PatchStatus) -> None:
        match action:
            case Apply():
                await self._apply(action)
            case Delete():
                await self._delete(action)
            case PatchStatus():
                await self._patch_status(action)

    async def _apply(self, action: Apply) -> None:
        resource = resource_of(action.object["apiVersion"], action.object["kind"])
        made = await self._client.apply(resource, action.object, manager=FIELD_MANAGER)
        self._learn(resource, made)
        log.info(
            "applied %s %s: %s", action.ref.kind, _name(action.ref.namespace, action.ref.name), action.reason
        )

    async def _delete(self, action: Delete) -> None:
        ref = action.ref
        resource = resource_of(ref.api_version, ref.kind)
        try:
            left = await self._client.delete(
                resource, ref.name, ref.namespace or "", uid=action.uid, propagation=action.propagation
            )
        except (NotFoundError, ConflictError):
            log.debug("%s %s is gone already", ref.kind, _name(ref.namespace, ref.name))
            return
        if left.get("kind") == ref.kind:
            self._learn(resource, left)
        log.info("deleted %s %s: %s", ref.kind, _name(ref.namespace, ref.name), action.reason)

    async def _patch_status(self, action: PatchStatus) -> None:
        ref = action.ref
        resource = resource_of(ref.api_version, ref.kind)
        try:
            made = await self._client.merge(
                resource,
                {"status": action.status},
                ref.name,
                ref.namespace or "",
                manager=FIELD_MANAGER,
                subresource="status",
                uid=action.uid,
            )
        except (NotFoundError, ConflictError):
            return
        self._learn(resource, made)


def _name(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
