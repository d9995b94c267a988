"""The peers, each in a virtual environment of its own, kept in the user's cache under the hash of what is pinned."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """`bare` packages are installed without what they ask for; `packages` follow with theirs."""

    name: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()

    @property
    def pins(self) -> list[str]:
        return [*self.bare, *self.packages]

    def path(self) -> Path:
        """The environment's folder, made on first use.

        Raises subprocess.CalledProcessError when pip fails.
        """
        key = hashlib.sha256(repr((sys.version_info[:2], self.pins)).encode()).hexdigest()[:12]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pointsman-bench"
        folder = cache / f"{self.name}-{key}"
        whole = folder / "installed"
        if not whole.exists():
            print(f"bench: installing {' '.join(self.pins)} into {folder}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            # What was left out on purpose is no news: pip's complaint about it is not shown.
            if self.bare:
                subprocess.run([*pip, "--no-deps", *self.bare], check=True, stderr=subprocess.DEVNULL)
            subprocess.run(
                [*pip, *self.packages], check=True, stderr=subprocess.DEVNULL if self.bare else None
            )
            whole.touch()
        return folder


VLLM_ROUTER = Environment("vllm-router", ("vllm-router==0.1.17",))
SGLANG_ROUTER = Environment("sglang-router", ("sglang-router==0.3.2",))
# A full install of ai-dynamo fails on a package that is not on PyPI; these are the ones that the frontend and the mocker
# import, and `tokenizers` and numpy to make them a tokenizer and read a performance profile.
DYNAMO = Environment(
    "dynamo",
    (
        "uvloop==0.23.0",
        "packaging==26.3",
        "typing_extensions==4.16.0",
        "pyyaml==6.0.3",
        "msgspec==0.22.0",
        "pydantic==2.13.5",
        "tokenizers==0.23.3",
        "numpy==2.4.6",
    ),
    bare=("ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1"),
)
