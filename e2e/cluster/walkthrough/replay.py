"""Run the walk-through on a cluster, as a reader would, and keep what was said."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries, commands
from e2e.cluster.cluster import Cluster
from e2e.cluster.walkthrough.steps import MODEL, SCRIPTS, SECTIONS, URL, Section, Step

STEP_SECONDS = 300.0
PAUSE_SECONDS = 1.0
# What Helm remarks on the way: that the chart's definitions are a link.
REMARKS = re.compile(r"(?m)^(level=INFO|walk\.go).*\n")
LOAD = re.compile(r"requests: (\d+), failed: (\d+)")


class StepError(Exception):
    """A step did not come to what it should."""


@dataclass(frozen=True, slots=True)
class Played:
    """A section and what its commands printed; for sections under load, how it ended."""

    section: Section
    outputs: tuple[str, ...]
    load: str = ""


class Replay:
    """The walk-through on one cluster."""

    def __init__(self, cluster: Cluster, folder: Path, values: Mapping[str, Any]) -> None:
        """`folder`: for values.yaml, and where commands find the project's own folders."""
        self._cluster = cluster
        self._folder = folder
        self._environment = {**commands.without_proxies(), **cluster.environment, "PYTHONWARNINGS": "ignore"}
        python = Path(sys.executable).parent
        self._environment["PATH"] = os.pathsep.join([str(python), self._environment["PATH"]])
        (folder / "values.yaml").write_text(yaml.safe_dump(dict(values), sort_keys=False))
        for name in ("charts", "manifests", "e2e"):
            (folder / name).symlink_to(binaries.PROJECT / name)

    def play(self) -> Iterator[Played]:
        """Every section in turn. Raises StepError."""
        self._environment["BEGAN"] = str(time.time())
        for section in SECTIONS:
            if section.streams:
                with self._load(section.streams) as load:
                    outputs = tuple(self._run(step) for step in section.steps)
                said = load()
                counted = LOAD.search(said)
                if counted is None or int(counted[1]) == 0 or int(counted[2]) > 0:
                    raise StepError(f"{section.title}: under load: {said}")
                yield Played(section, outputs, said)
            else:
                yield Played(section, tuple(self._run(step) for step in section.steps))

    def _run(self, step: Step) -> str:
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            finished = subprocess.run(
                self._command(step.run),
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=STEP_SECONDS,
                check=False,
            )
            said = finished.stdout + REMARKS.sub("", finished.stderr)
            wrong = _wrong(step, finished.returncode, said)
            if not wrong:
                return said
            if _changes(step) or time.monotonic() > deadline:
                raise StepError(f"$ {step.run}\n{said}\n{wrong}")
            time.sleep(PAUSE_SECONDS)

    def _command(self, line: str) -> list[str]:
        return self._cluster.command(["env", f"--chdir={self._folder}", "bash", "-c", line])

    @contextmanager
    def _load(self, streams: int) -> Iterator[Any]:
        """Load while the block runs; afterwards what is yielded says what became of it."""
        line = shlex.join(["python", f"{SCRIPTS}/load.py", URL, MODEL, str(streams)])
        said: list[str] = []
        with subprocess.Popen(
            self._command(line),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            try:
                if running.stdout is None or running.stdout.readline() != "streaming\n":
                    raise StepError("the load did not begin")
                yield lambda: said[0]
                said.append(running.communicate("end\n", timeout=STEP_SECONDS)[0].strip())
            finally:
                running.kill()


def _wrong(step: Step, status: int, said: str) -> str:
    if (status != 0) is not step.fails:
        return f"it ended with {status}"
    for pattern in step.expect:
        if not re.search(pattern, said):
            return f"nothing matches {pattern}"
    if step.never and re.search(step.never, said):
        return f"something matches {step.never}"
    return ""


def _changes(step: Step) -> bool:
    """Whether it may be run once only. What only looks is asked again until it shows what it should."""
    return not re.match(r"(cat|python|kubectl (--namespace \S+ )?(get|explain|wait|rollout))\b", step.run)
