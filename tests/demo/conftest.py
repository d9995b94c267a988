"""The `pointsman` command as a process, and what is left of it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def start_pointsman() -> Start:
    async def start(*arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "pointsman"),
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    return start


@pytest.fixture
def children_of() -> Callable[[int], list[int]]:
    """Processes that were started under a parent's tether, whether or not the parent still runs."""

    def find(parent: int) -> list[int]:
        tether = f"pointsman.cli.tether\0{parent}\0".encode()
        found = []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and tether in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    return find
