"""The Python that our router is measured with: the one its image runs, where this machine has it.

The image runs Debian's, which is built with profile-guided optimisation; others often are not, and a tenth slower.
"""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from dataplane.load import ROOT

DEBIAN = Path("/usr/bin/python3")
OVERRIDE = "BENCH_PYTHON"
"""Environment variable with the path of another interpreter."""
LOCK = ROOT / "requirements.lock"
_FACTS = (
    "import json, platform, sys, sysconfig; print(json.dumps({'path': sys.executable, 'version': sys.version,"
    " 'built_with': sysconfig.get_config_var('CONFIG_ARGS')}))"
)


@cache
def environment() -> Path:
    """The Python of a virtual environment with what the image has besides ourselves, made on first use.

    Raises subprocess.CalledProcessError where pip fails.
    """
    base = _base()
    key = hashlib.sha256(repr((str(base), facts(base)["version"])).encode() + LOCK.read_bytes()).hexdigest()
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pointsman-bench"
    folder = cached / f"pointsman-{key[:12]}"
    python = folder / "bin" / "python"
    whole = folder / "installed"
    if not whole.exists():
        print(f"bench: installing requirements.lock for {base} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([str(base), "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "--requirement", str(LOCK)], check=True)
        whole.touch()
    return python


def facts(python: Path) -> dict[str, str]:
    """Path, version and configure arguments of an interpreter."""
    told = subprocess.run([str(python), "-c", _FACTS], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def _base() -> Path:
    """What was asked for; else Debian's, if it can make environments for us; else the one that runs the bench."""
    asked = os.environ.get(OVERRIDE)
    if asked:
        return Path(asked)
    able = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))"
    if (
        DEBIAN.exists()
        and subprocess.run([str(DEBIAN), "-c", able], check=False, capture_output=True).returncode == 0
    ):
        return DEBIAN
    return Path(sys.executable)
