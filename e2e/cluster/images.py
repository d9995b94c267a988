"""Make the images that run in the cluster, without Docker and without a registry.

Bases come from the machine's own Debian package sources, the project's image from its own Dockerfile, built by buildah on
those bases. Each lies in the user's cache under a key of everything it is made of.
"""

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import binaries, commands, oci
from e2e.cluster.cached import cached
from e2e.cluster.containerd import PAUSE_IMAGE

PROJECT_IMAGE = "localhost/pointsman:e2e"
# Compressed, as a registry stores it. A larger image is an error: find out what came in.
PROJECT_IMAGE_LIMIT_BYTES = 75_000_000

SUITE = "bookworm"  # the Dockerfile's bases are Debian 12
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

# Stands in for debian:12-slim with the Dockerfile's own packages in it.
BUILD_BASE = ("--variant=minbase", "--include=python3-venv")
# Stands in for distroless: Python and the libraries that wheels link to, extracted; no shell, no package manager at work.
RUNTIME_BASE = (
    "--variant=extract",
    "--include=python3-minimal,libpython3-stdlib,libstdc++6",
    "--customize-hook=mkdir -p $1/dev $1/etc $1/proc $1/run $1/sys && mkdir -m 1777 -p $1/tmp",
)
# Hosts a Python that is mounted into it, with a real engine or a client of one: the libraries that both link to.
ENGINE_HOST = ("--variant=minbase", "--include=curl,python3,libgomp1,libnuma1,libstdc++6")
ENGINE_HOST_IMAGE = "localhost/engine-host:e2e"
# Stands in for the image of Redis that the chart names.
REDIS = (
    "--variant=extract",
    "--include=dash,grep,redis-server,redis-tools",
    "--customize-hook=mkdir -p $1/data $1/dev $1/etc $1/proc $1/run/redis $1/sys && mkdir -m 1777 -p $1/tmp",
)
REDIS_IMAGE = "localhost/redis:e2e"
WITHOUT_DOCUMENTATION = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")
)


class ImageTooLargeError(Exception):
    """The image has grown over its limit."""


def pause() -> oci.ImageArchive:
    """The image that holds a pod's namespaces open."""
    command = binaries.build("pause") / "pause"

    def make(path: Path) -> None:
        layer = oci.layer_of({"/pause": command})
        config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
        oci.write_archive(path, PAUSE_IMAGE, layer, architecture=_architecture(), config=config)

    return oci.ImageArchive(cached("pause", [command.parent.name], make, suffix=".tar"), PAUSE_IMAGE)


def debian_base(name: str, options: Sequence[str]) -> Path:
    """OCI archive of a root filesystem made of Debian packages, with the machine's own package sources."""

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            root = Path(scratch) / "root.tar"
            commands.run(["mmdebstrap", "--quiet", *options, *WITHOUT_DOCUMENTATION, SUITE, str(root)])
            oci.write_archive(
                path, f"localhost/{name}:e2e", root.read_bytes(), architecture=_architecture(), config={}
            )

    return cached(name, [SUITE, *options], make, suffix=".tar")


def engine_host() -> oci.ImageArchive:
    """An image without any engine in it, for engines whose environment is mounted from the node."""
    return oci.ImageArchive(debian_base("engine-host", ENGINE_HOST), ENGINE_HOST_IMAGE)


def redis() -> oci.ImageArchive:
    """Redis from Debian."""
    return oci.ImageArchive(debian_base("redis", REDIS), REDIS_IMAGE)


def project() -> oci.ImageArchive:
    """The project's own image, from its Dockerfile. Raises CommandError, ImageTooLargeError."""
    bases = {
        "BUILD_BASE": debian_base("build-base", BUILD_BASE),
        "BASE": debian_base("runtime-base", RUNTIME_BASE),
    }

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            pip_settings = Path(scratch) / "pip.conf"
            pip_settings.write_text(_pip_settings())
            volumes = [
                (pip_settings, "/etc/pip.conf"),
                *((path, str(path)) for path in _host_package_folders()),
            ]
            _buildah(
                "build",
                "--layers",
                "--format=oci",
                f"--tag={PROJECT_IMAGE}",
                *(f"--build-arg={name}=oci-archive:{base}" for name, base in bases.items()),
                *(f"--volume={source}:{target}:ro" for source, target in volumes),
                str(binaries.PROJECT),
            )
        _buildah("push", "--quiet", PROJECT_IMAGE, f"oci-archive:{path}:{PROJECT_IMAGE}")

    content = [_content_key(binaries.PROJECT), *(base.stem for base in bases.values())]
    archive = oci.ImageArchive(cached("pointsman", content, make, suffix=".tar"), PROJECT_IMAGE)
    if archive.size_bytes() > PROJECT_IMAGE_LIMIT_BYTES:
        raise ImageTooLargeError(
            f"the image has {archive.size_bytes()} bytes, more than {PROJECT_IMAGE_LIMIT_BYTES}"
        )
    return archive


def _content_key(folder: Path) -> str:
    """Key of everything that the Dockerfile copies, and of itself."""
    digest = hashlib.sha256()
    copied = [line[1:] for line in (folder / ".dockerignore").read_text().split() if line.startswith("!")]
    for name in ["Dockerfile", *copied]:
        files = [folder / name] if (folder / name).is_file() else sorted((folder / name).rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                content = file.read_bytes()
                digest.update(f"{file.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _pip_settings() -> str:
    """The host's package settings as one pip.conf: index, mirrors, certificates."""
    listed = commands.run([sys.executable, "-m", "pip", "config", "list"]).stdout
    settings = {}
    for line in listed.splitlines():
        name, value = line.split("=", 1)
        settings[name.rpartition(".")[2]] = value.strip("'\"").replace("\\n", "\n    ")
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def _host_package_folders() -> list[Path]:
    """Folders of the host that its package settings may name: certificates, and local packages."""
    named = os.environ.get("PIP_FIND_LINKS", "").split()
    return [Path("/etc/ssl/certs"), *(Path(name) for name in named if Path(name).is_dir())]


def _architecture() -> str:
    return ARCHITECTURES[platform.machine()]


def _buildah(*arguments: str) -> None:
    store = binaries.user_cache() / "buildah"
    run = Path(tempfile.gettempdir()) / f"pointsman-buildah-{os.getuid()}"
    options = [f"--root={store}", f"--runroot={run}", "--storage-driver=overlay"]
    commands.run(["buildah", *options, *arguments], environment={**os.environ, "BUILDAH_ISOLATION": "chroot"})
