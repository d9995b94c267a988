"""Inputs that the fuzzer began with, and those that once broke something, replayed without it."""

import asyncio
from pathlib import Path

import pytest
from pointsman_fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.name}" for path in FILES])
def test_every_input_keeps_its_targets_promises(path: Path) -> None:
    asyncio.run(replayed(path.parent.name, path.read_bytes()))


async def replayed(target: str, data: bytes) -> None:
    await TARGETS[target](data)


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)
