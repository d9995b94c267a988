"""Events: written once, counted when repeated."""

from typing import Any

from fakekube.server import FakeKube
from pointsman.kube.client import ApiClient
from pointsman.kube.recording import QUIET_S, EventRecorder
from pointsman.kube.resource import EVENTS

ABOUT = {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": "ns", "uid": "u"}


def events(fake: FakeKube) -> list[dict[str, Any]]:
    return fake.storage.all(EVENTS.path())


async def test_a_repeat_is_counted_on_the_same_event(fake: FakeKube, client: ApiClient) -> None:
    now_s = 0.0
    recorder = EventRecorder(client, controller="pointsman", instance="p", clock=lambda: now_s)
    for _ in range(3):
        await recorder.record(ABOUT, "Warning", "Broken", "it is", "Reconcile")
    (event,) = events(fake)
    assert (event["note"], event["regarding"], "series" in event) == ("it is", ABOUT, False)
    assert len(fake.writes()) == 1
    now_s = QUIET_S
    await recorder.record(ABOUT, "Warning", "Broken", "it is", "Reconcile")
    (event,) = events(fake)
    assert event["series"]["count"] == 4


async def test_another_message_is_another_event(fake: FakeKube, client: ApiClient) -> None:
    recorder = EventRecorder(client, controller="pointsman", instance="p")
    await recorder.record(ABOUT, "Normal", "Scaled", "to 1", "Reconcile")
    await recorder.record(ABOUT, "Normal", "Scaled", "to 2", "Reconcile")
    await recorder.record({**ABOUT, "uid": "another"}, "Normal", "Scaled", "to 2", "Reconcile")
    assert len(events(fake)) == 3


async def test_a_new_process_goes_on_with_the_old_ones_event(fake: FakeKube, client: ApiClient) -> None:
    for _ in range(2):
        recorder = EventRecorder(client, controller="pointsman", instance="p")
        await recorder.record(ABOUT, "Normal", "Scaled", "to 1", "Reconcile")
    (event,) = events(fake)
    assert event["series"]["count"] == 2


async def test_an_event_that_is_no_longer_kept_is_written_anew(fake: FakeKube, client: ApiClient) -> None:
    now_s = 0.0
    recorder = EventRecorder(client, controller="pointsman", instance="p", clock=lambda: now_s)
    await recorder.record(ABOUT, "Normal", "Scaled", "to 1", "Reconcile")
    fake.storage.delete(EVENTS.path(), "ns", events(fake)[0]["metadata"]["name"])
    now_s = QUIET_S
    await recorder.record(ABOUT, "Normal", "Scaled", "to 1", "Reconcile")
    assert len(events(fake)) == 1


async def test_long_notes_are_cut_where_a_character_ends(fake: FakeKube, client: ApiClient) -> None:
    await EventRecorder(client, controller="pointsman", instance="p").record(
        ABOUT, "Normal", "Long", "ü" * 2000, "Reconcile"
    )
    assert events(fake)[0]["note"] == "ü" * 512
