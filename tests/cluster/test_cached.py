"""What is made once per user: found again by what it is made of, a few older versions kept, stores linked and not copied."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster import cached as module
from e2e.cluster import image_store
from e2e.cluster.cached import cached


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def file_with(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(text)

    return make


def folder_with(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "file").write_text(text)

    return make


def test_it_is_made_once_for_what_it_is_made_of() -> None:
    first = cached("thing", ["a", "b"], file_with("first"), suffix=".tar")
    again = cached("thing", ["a", "b"], file_with("never made"), suffix=".tar")
    other = cached("thing", ["ab", ""], file_with("other"), suffix=".tar")
    assert first == again != other
    assert (first.read_text(), other.read_text(), first.suffix) == ("first", "other", ".tar")


def test_what_failed_half_way_is_made_anew() -> None:
    def fail(path: Path) -> None:
        folder_with("half")(path)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cached("store", ["a"], fail)
    assert (cached("store", ["a"], folder_with("whole")) / "file").read_text() == "whole"


@pytest.mark.parametrize("make", [file_with, folder_with])
def test_the_last_few_versions_are_kept(make: Callable[[str], Callable[[Path], None]]) -> None:
    versions = [cached("thing", [str(number)], make("")) for number in range(module.KEPT_VERSIONS + 2)]
    assert versions[-1].exists()
    assert sum(version.exists() for version in versions) == module.KEPT_VERSIONS


def test_a_nodes_store_shares_files_and_has_databases_of_its_own(tmp_path: Path) -> None:
    store, node = tmp_path / "store", tmp_path / "node" / "containerd"
    for name in ("io.containerd.content/blob", "io.containerd.metadata/meta.db"):
        (store / name).parent.mkdir(parents=True)
        (store / name).write_text(name)
    image_store.link(store, node)
    blob, database = (
        node / name for name in ("io.containerd.content/blob", "io.containerd.metadata/meta.db")
    )
    assert blob.samefile(store / "io.containerd.content/blob")
    database.write_text("changed")
    assert (store / "io.containerd.metadata/meta.db").read_text() == "io.containerd.metadata/meta.db"
