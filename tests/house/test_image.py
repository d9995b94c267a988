"""What goes into the container image."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]


def pinned() -> dict[str, set[str]]:
    """Versions by package in the lock file."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE
    ):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_every_dependency_is_pinned_at_a_version_that_pyproject_allows() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    versions = pinned()
    for requirement in map(Requirement, project["dependencies"]):
        chosen = versions.get(canonicalize_name(requirement.name), set())
        assert chosen, f"{requirement.name} is not in requirements.lock: make lock"
        assert all(requirement.specifier.contains(version) for version in chosen), f"{requirement}: make lock"


def test_everything_pinned_has_a_hash() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[A-Za-z])", lock, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_image_has_every_package_root_of_the_wheel() -> None:
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    dockerfile = (PROJECT / "Dockerfile").read_text()
    ignored = (PROJECT / ".dockerignore").read_text().split()
    for package in wheel["packages"]:
        root = package.split("/")[0]
        assert f"COPY {root} {root}" in dockerfile
        assert f"!{root}" in ignored


def test_bases_are_pinned_by_digest_and_nobody_runs_as_root() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    bases = re.findall(r"^ARG \w+=(\S+)$", dockerfile, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", base) for base in bases)
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["65532:65532"]
