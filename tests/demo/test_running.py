"""A running cluster is found by its URL, and only while it runs."""

import os
from pathlib import Path

import pytest

from pointsman.cli.running import RunningCluster, announced, find_cluster, runtime_folder

CLUSTER = RunningCluster(os.getpid(), ("http://127.0.0.1:9001", "http://127.0.0.1:9002"), "2 mixed x p")
URL = "http://127.0.0.1:8000"
GONE = 2**22 + 1
"""Beyond the greatest process id."""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_a_cluster_is_found_while_it_runs() -> None:
    assert find_cluster(URL) is None
    with announced(URL, CLUSTER):
        assert find_cluster(URL) == CLUSTER
        assert find_cluster("http://localhost:8000/v1") == CLUSTER
        assert find_cluster("http://127.0.0.1:8001") is None
        assert find_cluster("http://10.0.0.1:8000") is None
    assert find_cluster(URL) is None


def test_what_a_killed_cluster_left_behind_is_not_believed() -> None:
    with announced(URL, RunningCluster(GONE, (), "")):
        assert find_cluster(URL) is None


def test_what_killed_clusters_left_behind_is_removed_by_the_next(runtime: Path) -> None:
    left = runtime / "pointsman" / "up-8001.json"
    left.parent.mkdir()
    left.write_text(f'{{"pid": {GONE}, "engines": [], "pools": ""}}')
    with announced("http://127.0.0.1:8002", CLUSTER), announced(URL, CLUSTER):
        assert not left.exists()
        assert find_cluster("http://127.0.0.1:8002") == CLUSTER


@pytest.mark.parametrize("content", [b"", b"[]", b'{"pid": "x"}', b"{"])
def test_a_file_that_is_none_of_ours_is_not_believed(runtime: Path, content: bytes) -> None:
    (runtime / "pointsman").mkdir()
    (runtime / "pointsman" / "up-8000.json").write_bytes(content)
    assert find_cluster(URL) is None


def test_the_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert runtime_folder() == Path("/c/pointsman")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert runtime_folder() == Path("/h/.cache/pointsman")
