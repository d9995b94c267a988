"""Whether mypyc still translates the hot modules to C: it accepts less than mypy does, and nobody compiles them as they are developed.

The C compiler, which takes minutes, is left out.
"""

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

from mypyc.build import mypycify

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Ends with status 1, and mypyc's messages, if one is refused."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder)
        for root in hook["roots"]:
            shutil.copytree(ROOT / root / "pointsman", merged / "pointsman", dirs_exist_ok=True)
        os.chdir(merged)
        modules = [
            str(module.relative_to(merged))
            for pattern in hook["modules"]
            for module in sorted(merged.glob(pattern))
        ]
        mypycify([*hook["options"], *modules], target_dir="c")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
