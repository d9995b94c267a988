"""The chart on a cluster: rendered, installed, tested, upgraded and removed by Helm, of either major."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries, commands, images
from e2e.cluster.cluster import Cluster
from e2e.cluster.local import LocalCluster

CHART = binaries.PROJECT / "charts" / "pointsman"
MAJORS = ("helm-3", "helm-4")
REDIS_IMAGE_VARIABLE = "POINTSMAN_REDIS_IMAGE"

Values = Mapping[str, Any]

# What the chart makes up anew where it cannot look up what it made up before.
GENERATED = re.compile(r"\b[A-Za-z0-9]{40}\b")


def command_of(major: str) -> Path:
    """Helm itself, `helm-3` or `helm-4`, built when it is not there."""
    return binaries.build(major) / "helm"


def for_image(reference: str) -> dict[str, Any]:
    """Values that make the chart run an image which the nodes have, or can pull."""
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}


def images_on(cluster: Cluster) -> dict[str, Any]:
    """Values that name the images of a cluster: those of a local one are given to its nodes, others pull the chart's Redis
    or the one that POINTSMAN_REDIS_IMAGE names.
    """
    redis = os.environ.get(REDIS_IMAGE_VARIABLE, "")
    if isinstance(cluster, LocalCluster):
        archive = images.redis()
        cluster.import_image(archive)
        redis = archive.reference
    return {"image": for_image(cluster.image), **({"redis": {"image": for_image(redis)}} if redis else {})}


def render(
    values: Values,
    *,
    major: str = "helm-4",
    release: str = "demo",
    namespace: str = "home",
    api_versions: Sequence[str] = (),
    chart: Path = CHART,
) -> str:
    """`helm template` without a cluster, what is generated replaced by one word. Raises CommandError."""
    argv: list[str | Path] = [
        command_of(major),
        "template",
        release,
        chart,
        f"--namespace={namespace}",
        "--values=-",
    ]
    argv += [f"--kube-version={binaries.DEFAULT_KUBERNETES}"]  # else Helm 3 takes an old one
    argv += [f"--api-versions={version}" for version in api_versions]
    rendered = commands.run(argv, stdin=json.dumps(values)).stdout
    return GENERATED.sub("GENERATED", rendered)


def notes(values: Values) -> str:
    """What Helm 4 tells who installs, without a cluster; `helm template` leaves it out. Raises CommandError."""
    argv: list[str | Path] = [command_of("helm-4"), "install", "demo", CHART, "--dry-run=client"]
    told = commands.run([*argv, "--namespace=home", "--values=-"], stdin=json.dumps(values)).stdout
    return told.rpartition("\nNOTES:\n")[2]


def objects_of(rendered: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(rendered) if each is not None]


class Release:
    """One installation of the chart in a namespace that is there already."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str = "pointsman", major: str = "helm-4"
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = name
        self.major = major
        self._helm = command_of(major)

    def install(self, values: Values, *options: str, chart: Path = CHART) -> str:
        """Install, and wait until everything is ready. Raises CommandError."""
        return self._apply("install", values, options, chart)

    def upgrade(self, values: Values, *options: str, chart: Path = CHART) -> str:
        """Upgrade, and wait until everything is ready. Raises CommandError."""
        return self._apply("upgrade", values, options, chart)

    def test(self) -> str:
        """Run the chart's own tests, and return what is said of them. Raises CommandError."""
        # Helm 3 asks for logs when a pod that passed is gone already.
        logs = ["--logs"] if self.major == "helm-4" else []
        return self._run("test", self.name, "--timeout=180s", *logs).stdout

    def uninstall(self) -> None:
        self._run("uninstall", self.name, "--wait", "--timeout=180s")

    def objects(self) -> list[dict[str, Any]]:
        """What Helm keeps of the release's objects, hooks apart."""
        return objects_of(self._run("get", "manifest", self.name).stdout)

    def _apply(self, verb: str, values: Values, options: Sequence[str], chart: Path) -> str:
        return self._run(
            verb,
            self.name,
            str(chart),
            "--values=-",
            "--wait",
            "--timeout=300s",
            *options,
            stdin=json.dumps(values),
        ).stdout

    def _run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.cluster.run(
            [self._helm, f"--namespace={self.namespace}", *arguments], stdin=stdin, timeout=400
        )
