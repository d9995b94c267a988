"""On the engines' PYTHONPATH: NIXL whose progress thread rests between polls.

NIXL's Python agent sets the rest to zero, so that each idle engine burns a whole core, and vLLM has no switch for it.
Without the thread an idle engine would not answer who wants to pull from it. So it polls every two milliseconds.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

REST_US = 2000


class RestfulLoader(Loader):
    """Loads NIXL's bindings as `inner` does, then gives its agents their rest."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        hurried: Any = module.nixlAgentConfig

        def rest(config: Any, _asked: int) -> None:
            hurried.pthrDelay.__set__(config, REST_US)

        members = {"pthrDelay": property(hurried.pthrDelay.__get__, rest)}
        module.nixlAgentConfig = type("RestfulAgentConfig", (hurried,), members)  # type: ignore[attr-defined]


class RestfulNixl(MetaPathFinder):
    """Finds the bindings of NIXL's packages (`nixl_cu13._bindings` and the like)."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if module != "_bindings" or not package.startswith("nixl_"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = RestfulLoader(spec.loader)
        return spec


sys.meta_path.insert(0, RestfulNixl())
