"""An instance in the simulation: its engine, the run of iterations under way, and its end of the network."""

from typing import TYPE_CHECKING

from pointsman.core.instances import Instance, InstanceId
from pointsman.core.perf import EngineProfile
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine import Engine, EngineCounters, EngineOptions, Iteration
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.options import MODEL
from pointsman.sim.simulation.timeline import NO_MORE

if TYPE_CHECKING:
    from mypy_extensions import i64  # as in core.perf


class Node:
    """A place for an engine; after a loss the next one that starts there is another instance."""

    __slots__ = (
        "draining",
        "engine",
        "instance",
        "lost_ps",
        "name",
        "number",
        "options",
        "past",
        "pool",
        "receives_free_ps",
        "run",
        "run_end_ps",
        "seconds_ps",
        "sends_free_ps",
        "started_ps",
        "starting",
        "starts",
        "version",
        "warming",
    )

    def __init__(self, number: int, name: str, pool: Pool, options: EngineOptions) -> None:
        self.number = number
        self.name = name
        self.pool = pool
        self.options = options
        self.engine: Engine | None = None
        """None: lost, or not started yet."""
        self.instance: Instance | None = None
        self.run: Iteration | None = None
        self.run_end_ps: i64 = NO_MORE
        """When it ends; NO_MORE: there is none."""
        self.version = 0
        """Wakes from before the present run are void."""
        self.draining = False
        self.starting = False
        """Its start-up is under way."""
        self.starts = 0
        self.started_ps = 0
        """When the present engine began to start."""
        self.seconds_ps = 0
        """How long earlier engines here have lived."""
        self.past = EngineCounters()
        """Of earlier engines here."""
        self.warming = 0
        """Of the sequences that decode, those of requests that warm up."""
        self.sends_free_ps = 0
        self.receives_free_ps = 0

    def begin_start(self, now_ps: int) -> None:
        """From now on it is paid for."""
        self.starting = True
        self.started_ps = now_ps

    def start(self) -> Instance:
        """A fresh engine serves."""
        self.engine = Engine(self.pool.profile, self.options)
        self.starting = False
        self.starts += 1
        self.instance = Instance(
            id=InstanceId(f"sim://{self.name}", str(self.starts)),
            models=(MODEL,),
            role=self.pool.role,
            pool=self.pool.name,
            capabilities=self.pool.capabilities,
            kv_capacity_tokens=self.options.kv_capacity_tokens or self.pool.profile.kv_capacity_tokens,
            max_running=self.pool.max_running,
        )
        return self.instance

    def lose(self, now_ps: int) -> None:
        """The engine dies, or never comes to be."""
        if self.engine is None and not self.starting:
            return
        self.seconds_ps += now_ps - self.started_ps
        if self.engine is not None:
            add_counters(self.past, self.engine.counters)
        self.engine = None
        self.starting = self.draining = False
        self.instance = None
        self.run = None
        self.run_end_ps = NO_MORE
        self.warming = 0
        self.version += 1

    def lived_s(self, now_ps: int) -> float:
        alive = self.engine is not None or self.starting
        alive_ps = now_ps - self.started_ps if alive else 0
        return (self.seconds_ps + alive_ps) / PS_PER_S


class Link:
    """The way of KV from one instance to another: each sends and receives one transfer after the other."""

    __slots__ = ("_ps_per_token_e6", "source", "target")

    def __init__(self, source: Node, target: Node) -> None:
        self.source = source
        self.target = target
        sender, receiver = source.pool.profile, target.pool.profile
        self._ps_per_token_e6 = max(_ps_per_token_e6(sender), _ps_per_token_e6(receiver))

    def arrive_ps(self, now_ps: int, tokens: int) -> int:
        """When the KV of `tokens` asked for now is there; both ends are taken until then."""
        start_ps = max(now_ps, self.source.sends_free_ps, self.target.receives_free_ps)
        end_ps = start_ps + tokens * self._ps_per_token_e6 // 1_000_000
        self.source.sends_free_ps = self.target.receives_free_ps = end_ps
        return end_ps


def _ps_per_token_e6(profile: EngineProfile) -> int:
    return round(profile.kv_bytes_per_token * PS_PER_S * 1_000_000 / profile.transfer_bytes_per_s)


def add_counters(total: EngineCounters, more: EngineCounters) -> None:
    total.iterations += more.iterations
    total.prompt_tokens += more.prompt_tokens
    total.generated_tokens += more.generated_tokens
    total.prefix_queries += more.prefix_queries
    total.prefix_hits += more.prefix_hits
    total.pulled_tokens += more.pulled_tokens
    total.preemptions += more.preemptions
