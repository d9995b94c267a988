"""Files that lie in Go modules: API schemas of Kubernetes, custom resource definitions of its neighbours."""

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import binaries, commands


@dataclass(frozen=True, slots=True)
class PinnedModule:
    """A module of which nothing is built, and the sum of its content as Go's checksum database has it."""

    path: str
    version: str
    sum: str


# The definitions of HTTPRoute and its like are in config/crd/standard.
GATEWAY_API = PinnedModule(
    "sigs.k8s.io/gateway-api", "v1.4.0", "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ="
)


class ChangedModuleError(Exception):
    """A module's content is not what was pinned."""


def folder_of_tool(folder: str) -> Path:
    """Sources of the module that `tools/FOLDER` builds, checked against its `go.sum`. Raises CommandError."""
    module = binaries.read_module(binaries.TOOLS / folder)
    return _downloaded(module.path, binaries.TOOLS / folder)[0]


def folder_of(module: PinnedModule) -> Path:
    """Sources of a module. Raises CommandError, ChangedModuleError."""
    folder, found = _downloaded(f"{module.path}@{module.version}", Path("/"))
    if found != module.sum:
        raise ChangedModuleError(f"{module.path}@{module.version} has the sum {found}, not {module.sum}")
    return folder


def _downloaded(module: str, folder: Path) -> tuple[Path, str]:
    described = json.loads(commands.run(["go", "mod", "download", "-json", module], folder=folder).stdout)
    return Path(described["Dir"]), described["Sum"]
