"""Records what running engines give: `python -m contract.record FOLDER --one URL --other URL --kv-events ENDPOINT`."""

import argparse
import asyncio
from pathlib import Path

import httpx

from contract.answers import Asker
from contract.case import Engines, observe
from contract.suite import GROUPS, record


async def run(arguments: argparse.Namespace) -> None:
    async with (
        httpx.AsyncClient(base_url=arguments.one, timeout=120) as one,
        httpx.AsyncClient(base_url=arguments.other, timeout=120) as other,
    ):
        engines = Engines(Asker(one), Asker(other), arguments.kv_events, arguments.lease)
        version = (await engines.one.ask("GET", "/version")).json["version"]
        for group in arguments.groups or GROUPS:
            record(
                arguments.folder,
                group,
                version,
                {case.name: await observe(case, engines) for case in GROUPS[group]},
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("groups", nargs="*")
    parser.add_argument("--one", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--kv-events", required=True)
    parser.add_argument("--lease", type=float, default=12.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
