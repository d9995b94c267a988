"""Children are started, heard, ended, and never outlive their parent."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from pointsman.cli.processes import Child, ProcessError, status_in_words

STARTS_AN_ENGINE_AND_WAITS = """
import asyncio
from pointsman.cli.processes import Child

async def main():
    child = await Child.start("engine", ["engine", "--port", "0"])
    await child.ready(60)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_child_says_where_it_serves_and_ends_when_told() -> None:
    child = await Child.start("engine", ["engine", "--port", "0"])
    try:
        assert (await child.ready(60)).startswith("http://127.0.0.1:")
        assert not child.has_ended
    finally:
        await child.stop(grace_s=10)
    assert child.has_ended
    assert not runs(child.pid)


async def test_a_child_that_does_not_start_is_reported_with_what_it_said() -> None:
    child = await Child.start("engine-1", ["engine", "--profile", "no-such-profile"])
    with pytest.raises(ProcessError, match=r"(?s)engine-1 ended with status 1 .*no-such-profile"):
        await child.ready(60)
    await child.stop(grace_s=1)


async def test_a_child_that_is_not_ready_in_time_is_reported() -> None:
    child = await Child.start("engine-1", ["engine", "--port", "0"])
    try:
        with pytest.raises(ProcessError, match=r"was not ready within 0\.001 s"):
            await child.ready(0.001)
    finally:
        await child.stop(grace_s=0)


async def test_a_child_dies_with_its_parent_even_when_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTS_AN_ENGINE_AND_WAITS, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert runs(child)
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(30):
        while runs(child):
            await asyncio.sleep(0.01)


def test_how_a_process_ended_in_words() -> None:
    assert status_in_words(0) == "status 0"
    assert status_in_words(-9) == "signal 9"
