"""Build the Go commands of `tools/` once per user.

Each folder's commands lie in the user's cache under a key made of its `go.mod`, `go.sum`, the Go version and the linker
flags: a fresh clone builds nothing again, and a changed pin never meets old binaries.
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import commands

PROJECT = Path(__file__).parents[2]
TOOLS = Path(__file__).with_name("tools")
DEFAULT_KUBERNETES = "1.36"

# Where the name Go gives a command is not the one people know.
COMMAND_NAMES = {"go.etcd.io/etcd/server/v3": "etcd", "sigs.k8s.io/lws/cmd": "leader-worker-set"}

# Files of a module that its command needs at run time.
MODULE_FILES = {"sigs.k8s.io/kwok": "kustomize/stage", "sigs.k8s.io/lws": "config"}


@dataclass(frozen=True, slots=True)
class Module:
    """What a folder of `tools/` says: packages to build, and the module they come from."""

    folder: Path
    path: str
    version: str
    packages: tuple[str, ...]


def user_cache() -> Path:
    """Where built binaries and images are kept between runs and clones; removing it costs time only."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pointsman" / "cluster"


def read_module(folder: Path) -> Module:
    described = json.loads(_go(["mod", "edit", "-json"], folder))
    packages = tuple(tool["Path"] for tool in described["Tool"] or ())
    if not packages:  # a command of our own
        return Module(folder, described["Module"]["Path"], "", (".",))
    direct = next(
        required
        for required in described["Require"]
        if packages[0] == required["Path"] or packages[0].startswith(required["Path"] + "/")
    )
    return Module(folder, direct["Path"], direct["Version"], packages)


def linker_flags(module: Module) -> str:
    """Flags that make commands small and let them say which version they are."""
    stamps: dict[str, str] = {}
    if module.path == "k8s.io/kubernetes":
        major, minor, _ = module.version.removeprefix("v").split(".", 2)
        stamp = "k8s.io/component-base/version.git"
        stamps = {f"{stamp}Version": module.version, f"{stamp}Major": major, f"{stamp}Minor": minor}
    elif module.path.startswith("helm.sh/helm/"):
        stamps = {f"{module.path}/internal/version.version": module.version}
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())])


def cache_key(module: Module, go_version: str) -> str:
    digest = hashlib.sha256()
    files = [file.read_bytes() for file in sorted(module.folder.iterdir())]
    for part in (*files, go_version.encode(), linker_flags(module).encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def built(folder: str) -> Path | None:
    """Directory with the commands of `tools/FOLDER`; None while nobody has built them. Raises CommandError."""
    target = _target(read_module(TOOLS / folder), folder)
    return target if target.is_dir() else None


def build(folder: str) -> Path:
    """Directory with the commands of `tools/FOLDER`, built when the cache lacks them.

    Raises CommandError. Two callers at once build once: the second waits for the first.
    """
    module = read_module(TOOLS / folder)
    target = _target(module, folder)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            started = time.monotonic()
            _build_into(module, target)
            print(f"built {folder} {module.version} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return target


def _target(module: Module, folder: str) -> Path:
    return user_cache() / "binaries" / f"{folder}-{cache_key(module, _go_version())}"


def _build_into(module: Module, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
        unfinished = Path(scratch) / target.name
        unfinished.mkdir()
        flags = ["-trimpath", "-ldflags", linker_flags(module), "-o", f"{unfinished}/"]
        _go(["build", *flags, *module.packages], module.folder, {"CGO_ENABLED": "0"})
        for package, name in COMMAND_NAMES.items():
            if package in module.packages:
                (built,) = unfinished.iterdir()
                built.rename(unfinished / name)
        if module.path in MODULE_FILES:
            source = Path(_go(["list", "-m", "-f", "{{.Dir}}", module.path], module.folder).strip())
            shutil.copytree(
                source / MODULE_FILES[module.path], unfinished / "files", copy_function=shutil.copyfile
            )
        unfinished.rename(target)


@functools.cache
def _go_version() -> str:
    return _go(["env", "GOVERSION", "GOARCH"], TOOLS)


def _go(arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    return commands.run(
        ["go", *arguments], folder=folder, environment={**os.environ, **(environment or {})}
    ).stdout
