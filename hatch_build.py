"""Compiles the hot modules with mypyc as a wheel is built, when asked to: HATCH_BUILD_HOOK_ENABLE_CUSTOM=true.

Nothing needs it: the same modules run uncompiled, are developed and tested so, and an editable installation always has
them so. A compiled router takes about a quarter less CPU time per request (bench/dataplane). A C compiler is needed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = "-fno-semantic-interposition -fvisibility=hidden"
"""Nobody replaces the functions of these modules one by one, so they may call and inline each other directly."""


class CompileHook(BuildHookInterface[Any]):
    """Puts the modules that `modules` in pyproject.toml names into the wheel as extension modules, beside their source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        # The packages lie under several roots, but mypyc names modules by their path: it gets them under one.
        merged = Path(self.root) / "build" / "mypyc"
        shutil.rmtree(merged, ignore_errors=True)
        for root in self.config["roots"]:
            shutil.copytree(Path(self.root) / root / "pointsman", merged / "pointsman", dirs_exist_ok=True)
        command = [sys.executable, "-m", "mypyc", *self.config["options"]]
        for pattern in self.config["modules"]:
            command += [str(module.relative_to(merged)) for module in sorted(merged.glob(pattern))]
        flags = f"{os.environ.get('CFLAGS', '')} {FLAGS}".strip()
        subprocess.run(command, cwd=merged, check=True, env={**os.environ, "CFLAGS": flags})
        shutil.rmtree(merged / "build")
        for compiled in merged.rglob("*.so"):
            build_data["force_include"][str(compiled)] = str(compiled.relative_to(merged))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
