"""What docs/quickstart-kubernetes.md shows, done again: install, serve, chat, scale, change, refuse, upgrade, remove."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.cluster import Cluster
from e2e.cluster.walkthrough import document
from e2e.cluster.walkthrough.replay import Replay
from e2e.cluster.walkthrough.steps import NAMESPACE, SECTIONS

PAGE_VARIABLE = "POINTSMAN_WRITE_WALKTHROUGH"


@pytest.fixture
def clean(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


@pytest.mark.asks_services
@pytest.mark.timeout(1200)
def test_the_walkthrough_works(clean: Cluster, image_values: dict[str, Any], tmp_path: Path) -> None:
    values = {**image_values, "router": {"config": {"open_access": {"may_explain": True}}}}
    played = list(Replay(clean, tmp_path, values).play())
    text = document.page(played)
    (tmp_path / "page.md").write_text(text)
    if os.environ.get(PAGE_VARIABLE):
        document.write(text)
    assert document.commands_in(text) == [step.run for section in SECTIONS for step in section.steps]


def test_the_page_shows_the_commands_that_are_replayed() -> None:
    assert document.commands_in(document.PAGE.read_text()) == [
        step.run for section in SECTIONS for step in section.steps
    ]
