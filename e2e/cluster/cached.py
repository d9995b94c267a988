"""What takes long to make is made once per user, and found again by everything that it was made of."""

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.cluster import binaries

KEPT_VERSIONS = 6


def cached(name: str, key: Sequence[str], make: Callable[[Path], None], *, suffix: str = "") -> Path:
    """A file or folder in the user's cache, made when it is not there; of older versions the last few are kept.

    Another clone, at another commit, may be about to use one of them.
    """
    folder = binaries.user_cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    target = folder / f"{name}-{digest}{suffix}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            started = time.monotonic()
            unfinished = folder / f".{target.name}"
            remove(unfinished)
            make(unfinished)
            unfinished.rename(target)
            versions = folder.glob(f"{name}-{'?' * len(digest)}{suffix}")
            for outdated in sorted(versions, key=lambda path: path.stat().st_mtime)[:-KEPT_VERSIONS]:
                remove(outdated)
            print(f"made {name} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return target


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
