"""Our hot modules compiled, as the image has them: `python -m dataplane.compiled` makes them and prints where they are."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dataplane import interpreter
from dataplane.load import BUILD, ROOT

PACKAGES = ("core", "router", "operator", "sim", "cli")
SOURCES = (*PACKAGES, "pyproject.toml", "hatch_build.py")
COMPILED = BUILD / "compiled"


def compiled() -> Path:
    """This checkout's wheel with its hot modules compiled, unpacked; built anew when a source has changed."""
    python = interpreter.environment()
    files = [file for name in SOURCES for file in sorted((ROOT / name).rglob("*.py")) or [ROOT / name]]
    read = b"".join(file.read_bytes() for file in files)
    state = hashlib.sha256(str(python).encode() + read).hexdigest()
    stamp = COMPILED / "built-from"
    if not stamp.exists() or stamp.read_text() != state:
        print("bench: compiling our hot modules", file=sys.stderr, flush=True)
        shutil.rmtree(COMPILED, ignore_errors=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        env = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
        subprocess.run([*pip, "--target", str(COMPILED), str(ROOT)], check=True, env=env)
        stamp.write_text(state)
    return COMPILED


if __name__ == "__main__":
    print(compiled())
