"""Feeds one target with what coverage makes interesting: `make fuzz TARGET=response SECONDS=60`.

New inputs go to build/fuzz/TARGET. One that breaks a promise is written to build/fuzz/crash-*: put it, as small as it
gets, into tests/fuzz/corpus/TARGET, where plain pytest replays it from then on.
"""

import asyncio
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pointsman"]):
    from pointsman_fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    name, seconds = sys.argv[1:]
    target, loop = TARGETS[name], asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    found = ROOT / "build" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    corpus = ROOT / "tests" / "fuzz" / "corpus" / name
    flags = [
        f"-max_total_time={seconds}",
        "-max_len=2048",
        "-timeout=10",
        f"-artifact_prefix={found.parent}/",
    ]
    atheris.Setup(
        [sys.argv[0], *flags, str(found), str(corpus)], lambda data: loop.run_until_complete(target(data))
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
