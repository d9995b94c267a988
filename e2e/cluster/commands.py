"""Run other programs to their end, with errors that say what they said."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

OUTPUT_TAIL_CHARACTERS = 3000

PROXY_VARIABLES = tuple(
    variable
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")
    for variable in (name, name.upper())
)


class CommandError(Exception):
    """A command failed; the message holds the end of its output."""


def without_proxies() -> dict[str, str]:
    """This process's environment as a cluster needs it: nothing outside can be reached, nothing inside needs a proxy."""
    return {name: value for name, value in os.environ.items() if name not in PROXY_VARIABLES}


def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command and keep its output. Raises CommandError when it fails, unless `check` is false."""
    finished = subprocess.run(
        list(map(str, argv)),
        env=os.environ if environment is None else environment,
        cwd=folder,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and finished.returncode != 0:
        output = (finished.stderr.strip() or finished.stdout.strip())[-OUTPUT_TAIL_CHARACTERS:]
        raise CommandError(f"{' '.join(map(str, argv))} ended with {finished.returncode}:\n{output}")
    return finished
