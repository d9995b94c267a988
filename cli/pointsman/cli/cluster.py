"""A cluster on this machine: simulated engines and a router, started, watched and ended together."""

import asyncio
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from pointsman.api.config_file import ConfigError, Problem, parse_config
from pointsman.api.router_config import RouterConfig
from pointsman.cli.processes import Child, ProcessError, status_in_words
from pointsman.core.instances import Role
from pointsman.http.client import ExchangeError, Pool, Sweeper, parse_url, request

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
READY_INTERVAL_S = 0.1
ENGINE_GRACE_S = 2.0
ROUTER_GRACE_S = 5.0
RESTART_DELAY_S = 1.0
DEFAULT_PROFILE = "a100-opt-13b"

Tell = Callable[[str], None]
"""Something happened that a person should know, as one sentence."""


class ClusterError(Exception):
    """The cluster could not be started or has ended."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How many instances of which role, and what each is."""

    prefill: int = 2
    decode: int = 2
    mixed: int = 0
    profile: str = DEFAULT_PROFILE
    speed: float = 1.0
    port: int = 0
    """Of the router; 0: a free one."""
    config: Path | None = None
    """The router's settings; instances and ports are filled in."""
    policy: str | None = None
    seed: int = 0
    restart: bool = False
    """Start an engine anew that has died."""

    @property
    def roles(self) -> list[Role]:
        return [Role.PREFILL] * self.prefill + [Role.DECODE] * self.decode + [Role.MIXED] * self.mixed

    def describe(self) -> str:
        counts = ((self.prefill, "prefill"), (self.decode, "decode"), (self.mixed, "mixed"))
        return " + ".join(f"{count} {role}" for count, role in counts if count) + f" x {self.profile}"


@dataclass(slots=True)
class RunningEngine:
    name: str
    role: Role
    child: Child
    url: str = ""


class Cluster:
    """Entered: everything is ready. Left, in whatever way: everything has ended."""

    def __init__(self, options: ClusterOptions, model: str, tell: Tell) -> None:
        self.options = options
        self.engines: list[RunningEngine] = []
        self.url = ""
        self._model = model
        self._tell = tell
        self._router: Child | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """Holds the router's configuration, which it watches."""
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises ClusterError, ProcessError and ConfigError."""
        try:
            await self._start_engines()
            self._folder = tempfile.TemporaryDirectory(prefix="pointsman-")
            await self._start_router(Path(self._folder.name))
        except BaseException:
            await self._stop()
            raise
        self._watching = [asyncio.create_task(self._watch(engine)) for engine in self.engines]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def ended(self) -> None:
        """Waits for the router's end, which is the cluster's. Raises ClusterError."""
        if self._router is not None:
            status = status_in_words(await self._router.ended())
            raise ClusterError(self._router.describe(f"ended with {status}"))

    async def _start_engines(self) -> None:
        counts: dict[Role, int] = {}
        for role in self.options.roles:
            counts[role] = counts.get(role, 0) + 1
            name = f"{role}-{counts[role]}"
            self.engines.append(RunningEngine(name, role, await self._start_engine(name, port=0)))
        urls = await asyncio.gather(*(engine.child.ready(START_TIMEOUT_S) for engine in self.engines))
        for engine, url in zip(self.engines, urls, strict=True):
            engine.url = url

    async def _start_engine(self, name: str, port: int) -> Child:
        options = self.options
        arguments = {
            "--profile": options.profile,
            "--model": self._model,
            "--host": HOST,
            "--port": str(port),
            "--speed": str(options.speed),
            "--seed": str(options.seed),
            "--grace": str(ENGINE_GRACE_S),
        }
        flat = [part for argument in arguments.items() for part in argument]
        return await Child.start(name, ["engine", *flat])

    async def _start_router(self, folder: Path) -> None:
        public, admin = self.options.port or free_port(), free_port()
        file = folder / "router.yaml"
        config = router_config(self.options, self._model, self.engines, public, admin)
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._router = await Child.start("router", ["router", "--config", str(file)])
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await answers_200(f"http://{HOST}:{admin}/ready"):
                    if self._router.has_ended:
                        await self.ended()
                    await asyncio.sleep(READY_INTERVAL_S)
        except TimeoutError:
            raise ClusterError(self._router.describe(f"was not ready within {START_TIMEOUT_S:g} s")) from None
        self.url = f"http://{HOST}:{public}"

    async def _watch(self, engine: RunningEngine) -> None:
        """Reports an engine's death and, where wanted, starts it anew at its address, until cancelled."""
        while True:
            status = status_in_words(await engine.child.ended())
            self._tell(engine.child.describe(f"({engine.url}) ended with {status}"))
            if not self.options.restart:
                return
            await asyncio.sleep(RESTART_DELAY_S)
            port = parse_url(engine.url)[0].port
            engine.child = await self._start_engine(engine.name, port)
            try:
                await engine.child.ready(START_TIMEOUT_S)
            except ProcessError as error:
                self._tell(str(error))
            else:
                self._tell(f"{engine.name} ({engine.url}) serves again")

    async def _stop(self) -> None:
        """The router first, so that no request meets a dead engine."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._router is not None:
            await self._router.stop(ROUTER_GRACE_S)
        await asyncio.gather(*(engine.child.stop(ENGINE_GRACE_S + 1.0) for engine in self.engines))
        if self._folder is not None:
            self._folder.cleanup()


def router_config(
    options: ClusterOptions, model: str, engines: Sequence[RunningEngine], public: int, admin: int
) -> dict[str, Any]:
    """The router's configuration: the user's settings, with our instances and ports. Raises ConfigError."""
    settings: dict[str, Any] = {}
    if options.config is not None:
        settings = load_settings(options.config)
    given_models = settings.get("models") or [{}]
    settings["models"] = [
        {
            **given_models[0],
            "name": model,
            "instances": [
                {"url": engine.url, "role": engine.role.value, "connector": "nixl"} for engine in engines
            ],
        }
    ]
    if options.policy is not None:
        settings["models"][0]["policy"] = options.policy
    settings.setdefault("open_access", {}).setdefault("may_explain", True)
    settings["listen"] = {**settings.get("listen", {}), "port": public}
    settings["admin"] = {**settings.get("admin", {}), "port": admin}
    place = options.config or Path("router.yaml")
    checked = parse_config(yaml.safe_dump(settings, sort_keys=False), RouterConfig, place)
    return checked.model_dump(mode="json", exclude_unset=True)


def load_settings(file: Path) -> dict[str, Any]:
    """A YAML mapping. Raises ConfigError."""
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(file, [Problem("", f"cannot be read: {error}")]) from error
    if not isinstance(settings, dict):
        raise ConfigError(file, [Problem("", "must be a mapping of settings")])
    return settings


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def answers_200(url: str) -> bool:
    origin, path = parse_url(url)
    sweeper = Sweeper()
    pool = Pool(origin, sweeper)
    try:
        return (await request(pool, "GET", path)).status == 200
    except ExchangeError:
        return False
    finally:
        pool.close()
        sweeper.close()
