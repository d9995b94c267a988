"""Reads the configuration again when it changed, and puts it into force if it is right."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from pointsman.api.config_file import ConfigError, files_of
from pointsman.api.router_config import RouterConfig, load_router_config

log = logging.getLogger(__name__)

POLL_S = 1.0

Stamp = tuple[tuple[Path, int, int, int], ...]
"""(file, modified at, size, inode) of each file: another one means another content, symbolic links included."""


def stamp_of(files: Iterable[Path]) -> Stamp:
    """Missing files have a stamp as well."""
    stamps = []
    for file in sorted(set(files)):
        try:
            status = file.stat()
        except OSError:
            stamps.append((file, 0, 0, 0))
        else:
            stamps.append((file, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)


class Reloader:
    """Watches a configuration file and every file it names: keys and certificates are renewed in place.

    A file that is wrong is refused, and everything stays as it was. What cannot change while the router runs is named
    in a warning, and the rest of the file is put into force.
    """

    def __init__(self, file: Path, config: RouterConfig, apply: Callable[[RouterConfig], None]) -> None:
        """`apply` may raise ConfigError, if nothing has changed yet."""
        self.config = config
        self._file = file
        self._apply = apply
        self._stamp = self._stamp_now()
        self._lock = asyncio.Lock()

    async def watch(self, counted: Callable[[bool], None]) -> None:
        """Until cancelled; `counted` is told whether each new configuration was accepted."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._stamp_now() != self._stamp:
                counted(not await self.reload())

    async def reload(self) -> str:
        """Read the file now. Empty when it is in force, else what is wrong with it."""
        async with self._lock:
            self._stamp = self._stamp_now()
            try:
                config = await asyncio.to_thread(load_router_config, self._file)
                self._apply(config)
            except ConfigError as error:
                log.error("the new configuration is refused, the old one stays:\n%s", error)  # noqa: TRY400 - an answer, not a crash
                return str(error)
            for path in fixed_changes(self.config, config):
                log.warning("%s has changed, which takes a restart of the router", path)
            self.config = config
            self._stamp = self._stamp_now()
            log.info("the new configuration is in force")
            return ""

    def _stamp_now(self) -> Stamp:
        return stamp_of([self._file, *files_of(self.config)])


def fixed_changes(old: RouterConfig, new: RouterConfig) -> list[str]:
    """Fields that differ and are read only when the router starts."""
    fields = {
        "listen.host": (old.listen.host, new.listen.host),
        "listen.port": (old.listen.port, new.listen.port),
        "listen.tls": (old.listen.tls, new.listen.tls),
        "admin": (old.admin, new.admin),
        "kubernetes": (old.kubernetes, new.kubernetes),
        "prompts": (old.prompts, new.prompts),
    }
    return [path for path, (before, after) in fields.items() if before != after]
