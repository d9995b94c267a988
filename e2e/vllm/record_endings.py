"""Records how real vLLM ends: `python -m record_endings FOLDER`, with e2e/vllm on the path."""

import argparse
import asyncio
import tempfile
from pathlib import Path

import httpx

from contract.case import Observation
from contract.endings import ENDINGS
from contract.suite import record
from realengine.endings import doomed, specs
from realengine.engine import running
from realengine.environment import ensure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found: dict[str, Observation] = {}
    with (
        tempfile.TemporaryDirectory(prefix="pointsman-vllm-") as logs,
        running(specs(), ensure(), Path(logs)) as engines,
    ):
        version = httpx.get(f"{engines[0].url}/version").json()["version"]
        for engine in engines:
            found |= asyncio.run(ENDINGS[engine.spec.name].scenario(doomed(engine)))
    record(folder, "endings", version, found)


if __name__ == "__main__":
    main()
