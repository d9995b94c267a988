"""The walk-through as a page: what was typed and what came of it, on the cluster it was played on."""

import re
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.walkthrough.replay import Played
from e2e.cluster.walkthrough.steps import Step

PAGE = binaries.PROJECT / "docs" / "quickstart-kubernetes.md"
HEAD = """\
# How do I serve a model on Kubernetes?

Every command below was run, and every line after it printed, by `make walkthrough` on a cluster of two nodes without GPUs
(`e2e/cluster`). CI replays it: it fails when a command does, when its output lacks what is said here, and when a single request
of those under load is lost.
"""


def page(played: Iterable[Played]) -> str:
    parts = [HEAD]
    for each in played:
        parts.append(f"\n## {each.section.title}\n\n{each.section.text}\n")
        parts += [_block(step, output) for step, output in zip(each.section.steps, each.outputs, strict=True)]
        if each.load:
            parts.append(f"\nThe streams meanwhile: **{each.load}**.\n")
    return "".join(parts)


def commands_in(text: str) -> list[str]:
    """Commands that a page shows."""
    return re.findall(r"(?m)^\$ (.*)$", text)


def _block(step: Step, output: str) -> str:
    lines = [line.rstrip() for line in output.strip().splitlines()]
    if len(lines) > step.shown_lines:
        lines = [*lines[: step.shown_lines], "..."]
    return "\n```console\n" + "\n".join([f"$ {step.run}", *lines]) + "\n```\n"


def write(text: str, path: Path = PAGE) -> None:
    path.write_text(text)
