"""containerd's store with images in it, made once per user: nodes begin with links to its files instead of importing.

Unpacking the project's image costs seven seconds of a core, and every node of every cluster would pay them. What containerd
keeps of an image is never written to again: files are linked, and only its databases are copied.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import binaries, commands, containerd, oci
from e2e.cluster.cached import cached
from e2e.cluster.cluster import eventually
from e2e.cluster.sandbox import Sandbox


def prepared(archives: Sequence[oci.ImageArchive]) -> Path:
    """The folder of a store that holds the images. Raises CommandError, SandboxError."""
    version = commands.run(["containerd", "--version"]).stdout
    return cached(
        "store", [version, *(archive.path.name for archive in archives)], lambda to: _make(to, archives)
    )


def link(store: Path, target: Path) -> None:
    """Make `target` a store of its own with everything that `store` holds. Raises CommandError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link leads to no other file system; there it has to be a copy.
    linked = ["--link"] if store.stat().st_dev == target.parent.stat().st_dev else []
    commands.run(["cp", "--archive", *linked, store, target])
    for database in target.glob("*/*.db"):
        own = database.with_suffix(".own")
        shutil.copy2(database, own)
        own.replace(database)


def _make(target: Path, archives: Sequence[oci.ImageArchive]) -> None:
    with Sandbox(binaries.user_cache() / "stores") as sandbox:
        folders = containerd.Folders(sandbox.folder, Path("/run/store"))
        runtime = containerd.Containerd(sandbox, "containerd", folders)
        runtime.start()
        eventually(runtime.answers, "containerd does not answer")
        for archive in archives:
            runtime.import_image(archive.path)
        runtime.stop()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folders.image_store / "io.containerd.content.v1.content" / "ingest")
        folders.image_store.rename(target)
