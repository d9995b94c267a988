"""What `pointsman up` makes of its options, before anything runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from pointsman.api.config_file import ConfigError, parse_config
from pointsman.api.router_config import RouterConfig
from pointsman.cli.cluster import ClusterOptions, router_config
from pointsman.cli.up import instance_counts
from pointsman.core.instances import Role


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ((None, None, None), (2, 2, 0)),
        ((4, 4, None), (4, 4, 0)),
        ((None, None, 8), (0, 0, 8)),
        ((None, 1, None), (0, 1, 0)),
        ((1, None, 1), (1, 0, 1)),
        ((0, 3, 0), (0, 3, 0)),
    ],
)
def test_counts_not_given_are_0_once_one_is(
    given: tuple[int | None, int | None, int | None], counts: tuple[int, int, int]
) -> None:
    assert instance_counts(*given) == counts


@pytest.mark.parametrize("given", [(2, None, None), (0, 0, 0), (None, None, 0)])
def test_clusters_that_cannot_answer_are_refused(given: tuple[int | None, int | None, int | None]) -> None:
    with pytest.raises(click.UsageError):
        instance_counts(*given)


def engines(*roles: Role) -> Any:
    return [SimpleNamespace(url=f"http://127.0.0.1:{9000 + i}", role=role) for i, role in enumerate(roles)]


def test_the_routers_configuration_names_every_instance() -> None:
    config = router_config(ClusterOptions(), "m", engines(Role.PREFILL, Role.DECODE), 8000, 8001)
    checked = parse_config(yaml.safe_dump(config), RouterConfig, Path("router.yaml"))
    (model,) = checked.models
    assert [(instance.role, instance.connector) for instance in model.instances] == [
        (Role.PREFILL, "nixl"),
        (Role.DECODE, "nixl"),
    ]
    assert (checked.listen.port, checked.admin.port) == (8000, 8001)
    assert checked.open_access.may_explain


def test_the_users_settings_are_kept_and_files_found_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "models: [{name: old, policy: round_robin, instances: []}]\n"
        "admin: {token_file: key}\nopen_access: {may_explain: false}\nqueue: {max_requests: 7}\n"
    )
    config = router_config(ClusterOptions(config=file), "m", engines(Role.MIXED), 8000, 8001)
    checked = parse_config(yaml.safe_dump(config), RouterConfig, Path("/elsewhere/router.yaml"))
    assert checked.models[0].name == "m"
    assert checked.models[0].policy.name == "round_robin"
    assert checked.admin.token_file == tmp_path / "key"
    assert checked.queue.max_requests == 7
    assert not checked.open_access.may_explain
    named = router_config(ClusterOptions(config=file, policy="power_of_two"), "m", engines(Role.MIXED), 1, 2)
    assert named["models"][0]["policy"]["name"] == "power_of_two"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("queue: {max_requests: -1}", "queue.max_requests"),
        ("- a list", "must be a mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as refused:
        router_config(ClusterOptions(config=file), "m", engines(Role.MIXED), 1, 2)
    assert str(file) in str(refused.value)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        router_config(ClusterOptions(config=tmp_path / "none.yaml"), "m", engines(Role.MIXED), 1, 2)
