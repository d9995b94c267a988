"""Actions carried out on a fake API server, and what ends a pass."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from fakekube.server import FakeKube
from pointsman.controller.applying import Applier
from pointsman.controller.reconcile.actions import Action, Apply, Delete, Event, PatchStatus, Ref, Requeue
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient
from pointsman.kube.errors import ApiError, ConflictError
from pointsman.kube.recording import EventRecorder
from pointsman.kube.resource import CONFIG_MAPS, EVENTS, INSTANCE_POOLS, Object, Resource

POOLS = INSTANCE_POOLS.path()


def config_map(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ns", **metadata},
        "data": {"a": "b"},
    }


class Shell:
    def __init__(self, fake: FakeKube, client: ApiClient) -> None:
        self.fake = fake
        self.learnt: list[tuple[Resource, Object]] = []
        self.recorder = EventRecorder(client, controller="test", instance="test")
        self.applier = Applier(
            client, self.recorder, lambda resource, obj: self.learnt.append((resource, obj))
        )

    def pool(self) -> Object:
        return self.fake.storage.create(
            POOLS,
            {
                "apiVersion": "pointsman.io/v1alpha1",
                "kind": "InstancePool",
                "metadata": {"name": "p", "namespace": "ns"},
            },
        )


@pytest.fixture
async def shell(fake: FakeKube) -> AsyncIterator[Shell]:
    async with ApiClient(Access(fake.url)) as client:
        yield Shell(fake, client)


async def test_all_of_it_in_order_and_what_was_written_is_known_at_once(shell: Shell) -> None:
    pool = shell.pool()
    actions: list[Action] = [
        Apply(config_map("one"), "created"),
        PatchStatus(Ref.of(pool), pool["metadata"]["uid"], {"replicas": 2}),
        Event({"name": "p", "namespace": "ns", "uid": "u", "kind": "InstancePool"}, "Normal", "Did", "it"),
        Requeue(30.0),
        Requeue(10.0),
    ]
    outcome = await shell.applier.carry_out(actions)
    assert (outcome.writes, outcome.requeue_s, outcome.error) == (2, 10.0, None)
    assert shell.fake.storage.get(POOLS, "ns", "p")["status"] == {"replicas": 2}
    assert [resource for resource, _ in shell.learnt] == [CONFIG_MAPS, INSTANCE_POOLS]
    assert shell.learnt[0][1] == shell.fake.storage.get(CONFIG_MAPS.path(), "ns", "one")


async def test_no_pass_waits_for_an_event(shell: Shell) -> None:
    told = Event({"name": "p", "namespace": "ns", "uid": "u", "kind": "InstancePool"}, "Normal", "Did", "it")
    outcome = await shell.applier.carry_out([told, Apply(config_map("one"), "created")])
    assert (outcome.writes, outcome.error) == (1, None)
    assert shell.fake.storage.all(EVENTS.path()) == []
    shell.fake.faults.failures = [500]  # of another event, which keeps this one from nothing
    await shell.applier.carry_out([replace(told, message="this too")])
    writing = asyncio.create_task(shell.recorder.run())
    while not (written := shell.fake.storage.all(EVENTS.path())):
        await asyncio.sleep(0.01)
    writing.cancel()
    assert [event["note"] for event in written] == ["this too"]


async def test_what_is_gone_or_another_by_now_counts_as_done(shell: Shell) -> None:
    pool = shell.pool()
    ref = Ref.of(pool)
    nobody = Ref(ref.api_version, ref.kind, "gone", "ns")
    outcome = await shell.applier.carry_out(
        [
            Delete(nobody, "u", "test"),
            Delete(ref, "of a predecessor", "test"),
            PatchStatus(nobody, "u", {}),
            PatchStatus(ref, "of a predecessor", {"replicas": 9}),
        ]
    )
    assert outcome.error is None
    assert "status" not in shell.fake.storage.get(POOLS, "ns", "p")
    await shell.applier.carry_out([Delete(ref, pool["metadata"]["uid"], "test")])
    assert shell.fake.storage.all(POOLS) == []


async def test_the_first_that_fails_ends_the_pass(shell: Shell) -> None:
    shell.fake.faults.failures = [500]
    outcome = await shell.applier.carry_out(
        [Apply(config_map("one"), "created"), Apply(config_map("two"), "created")]
    )
    assert isinstance(outcome.error, ApiError)
    assert outcome.refused == ""
    assert shell.fake.storage.all(CONFIG_MAPS.path()) == []


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_leaves_the_rest_but_status_and_events(shell: Shell, status: int) -> None:
    pool = shell.pool()
    shell.fake.faults.failures = [status]
    outcome = await shell.applier.carry_out(
        [
            Apply(config_map("one"), "created"),
            Apply(config_map("two"), "created"),
            PatchStatus(Ref.of(pool), pool["metadata"]["uid"], {"replicas": 1}),
        ]
    )
    assert "this failure was asked for" in outcome.refused
    assert shell.fake.storage.all(CONFIG_MAPS.path()) == []
    assert shell.fake.storage.get(POOLS, "ns", "p")["status"] == {"replicas": 1}


async def test_an_apply_to_what_is_another_object_by_now_is_a_conflict(shell: Shell) -> None:
    shell.fake.storage.create(CONFIG_MAPS.path(), config_map("one"))
    outcome = await shell.applier.carry_out([Apply(config_map("one", uid="of a predecessor"), "changed")])
    assert isinstance(outcome.error, ConflictError)
    assert outcome.refused == ""
