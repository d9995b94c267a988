"""One distribution, several source roots, one PEP 420 namespace: easy to break with a single stray file."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ["core", "router", "operator", "sim", "cli"]


def project() -> dict[str, object]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return config["tool"]["hatch"]["build"]  # type: ignore[no-any-return]


def test_the_build_lists_every_source_root() -> None:
    build = project()
    assert build["dev-mode-dirs"] == SOURCE_ROOTS
    wheel = build["targets"]["wheel"]["packages"]  # type: ignore[index]
    assert wheel == [f"{root}/pointsman" for root in SOURCE_ROOTS]


def test_namespace_folders_and_tests_hold_no_init_file() -> None:
    stray = [
        path
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "__init__.py", ROOT / root / "pointsman" / "__init__.py")
        if path.exists()
    ]
    assert not stray
    support = ROOT / "tests" / "support"  # packages that tests import, by pytest's pythonpath
    inits = (ROOT / "tests").rglob("__init__.py")
    assert not [path for path in inits if not path.is_relative_to(support)]


def test_every_package_is_typed() -> None:
    packages = {
        path
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "pointsman").glob("*")
        if (path / "__init__.py").exists()
    }
    assert packages
    assert not [path.name for path in packages if not (path / "py.typed").exists()]


def test_what_is_compiled_exists_and_leaves_the_rest_alone() -> None:
    build = project()
    hook = build["targets"]["wheel"]["hooks"]["custom"]  # type: ignore[index]
    assert hook["roots"] == SOURCE_ROOTS
    assert hook["enable-by-default"] is False
    assert hook["modules"]
    assert not [
        pattern
        for pattern in hook["modules"]
        if not any(any((ROOT / root).glob(pattern)) for root in SOURCE_ROOTS)
    ]


def test_every_dependency_has_its_reason_beside_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    listed = lines[start + 1 : lines.index("]", start)]
    assert listed
    assert not [line for line in listed if " # " not in line]


@pytest.mark.timeout(300)
def test_the_wheel_installs_and_imports(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("pointsman-*.whl")
    place = tmp_path / "venv"
    venv.create(place, with_pip=False, system_site_packages=False)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(place),
        "install",
        "--quiet",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    names = sorted(
        path.name
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "pointsman").glob("*")
        if (path / "__init__.py").exists()
    )
    script = f"import importlib.util as u; print([n for n in {names!r} if not u.find_spec('pointsman.' + n)])"
    out = subprocess.run([place / "bin" / "python", "-c", script], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
