"""Subcommands run as child processes that never outlive this one."""

import asyncio
import os
import re
import sys
from collections import deque
from collections.abc import Sequence

KEPT_LINES = 40
READY = re.compile(r"ready: (https?://\S+)")
"""How a child says where it serves."""


class ProcessError(Exception):
    """A child that did not start: says which, how it ended and what it wrote last."""


class Child:
    """One running `pointsman` subcommand. Its output is read so that it never blocks, and its last lines are kept."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """The URL it serves on; None: it ended without one."""
        self._reading = asyncio.create_task(self._read())
        self.stopping = False

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str]) -> "Child":
        """Starts it in a session of its own: Ctrl-C in a terminal reaches only us, who decide who ends when."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pointsman.cli.tether", str(os.getpid())),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._reading.done()

    async def ready(self, timeout_s: float) -> str:
        """The URL it serves on. Raises ProcessError."""
        try:
            async with asyncio.timeout(timeout_s):
                url = await asyncio.shield(self._ready)
        except TimeoutError:
            raise ProcessError(self.describe(f"was not ready within {timeout_s:g} s")) from None
        if url is None:
            status = status_in_words(await self.ended())
            raise ProcessError(self.describe(f"ended with {status} before it was ready"))
        return url

    async def ended(self) -> int:
        """Waits for its end; the exit status, negative for a signal."""
        await asyncio.shield(self._reading)  # whoever stops waiting does not stop the reading
        return await self._process.wait()

    def describe(self, what: str) -> str:
        """What happened to it, with its last lines."""
        lines = "".join(f"\n    {line}" for line in self._lines)
        return f"{self.name} {what}{lines}"

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when that does not end it within `grace_s`."""
        self.stopping = True
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await self.ended()
            except TimeoutError:
                self._process.kill()
        await self.ended()

    async def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        async for line in output:
            text = line.decode("utf-8", errors="replace").rstrip()
            self._lines.append(text)
            if not self._ready.done() and (said := READY.search(text)):
                self._ready.set_result(said.group(1))
        if not self._ready.done():
            self._ready.set_result(None)


def status_in_words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
