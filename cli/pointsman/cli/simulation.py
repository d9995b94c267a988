"""What `simulate` and `compare` have in common: their options, and one run from them."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from pointsman.api.connector import Connector
from pointsman.api.profile import load_profile
from pointsman.cli.options import objective_for
from pointsman.core.decide import ModelRules, Rules
from pointsman.core.instances import Capabilities, Role
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.queueing.catalogue import make_order
from pointsman.core.queueing.first_come import FirstCome
from pointsman.core.slo import Slo
from pointsman.sim.engine import EngineOptions
from pointsman.sim.instance_events import read_instance_events
from pointsman.sim.objective import Objective, ProfileObjective
from pointsman.sim.pools import Pool, PoolsError, parse_pools
from pointsman.sim.predictors import Predictor, PredictorError, make_predictor
from pointsman.sim.report import ClusterFigures, Report, RunCourse, RunFacts, make_report
from pointsman.sim.simulation.kernel import ArrivalTooLateError, Simulation, SimulationResult
from pointsman.sim.simulation.options import MODEL, InstanceChange, SimulationOptions
from pointsman.sim.simulation.programs import program_report
from pointsman.sim.workload.named import WorkloadNameError, is_described, open_workload
from pointsman.sim.workload.predictions import Predicted, is_predictions
from pointsman.sim.workload.request import Workload, count_requests
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace_rows import TraceError

DEFAULT_CHUNK_TOKENS = 2048
FIRST_COME = FirstCome.name
MOST_RATE_SCALE = 4000.0
"""A thousand copies of a trace, each of them an open file."""


@dataclass(frozen=True)
class SimulationPlan:
    """The options that `simulate` and `compare` share, one field each."""

    trace: str
    pools: str
    policy: str
    order: str = FIRST_COME
    chunk: int = DEFAULT_CHUNK_TOKENS
    predictor: str = "none"
    seed: int = 0
    rate_scale: float = 1.0
    max_requests: int | None = None
    view_delay: float = 0.0
    routers: int | None = None
    max_running: int = 0
    slo: Slo | None = None
    events: Path | None = None
    connector: str | None = None
    """How prefill and decode instances exchange KV; None: NIXL."""
    explain: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises click.BadParameter where options contradict each other or name what is not there."""
        if self.routers == 1 and self.view_delay:
            raise click.BadParameter(
                "a single router sees all it does at once; give --routers 2 or more",
                param_hint="--view-delay",
            )
        if self.rate_scale > MOST_RATE_SCALE:
            raise click.BadParameter(
                f"{self.trace} at {self.rate_scale:.6g} times its rate; at most {MOST_RATE_SCALE:g} times is possible"
            )
        if self.order.partition(":")[0] != FIRST_COME and not self.max_running:
            raise click.BadParameter(
                "nobody waits in the router while instances take all that comes; give --max-running N",
                param_hint="--order",
            )
        self.pool_list  # noqa: B018 - looked up for its errors
        self.rules  # noqa: B018
        self.changes  # noqa: B018

    @cached_property
    def pool_list(self) -> list[Pool]:
        """Raises click.BadParameter."""
        try:
            names = parse_pools(self.pools)
        except PoolsError as error:
            raise click.BadParameter(str(error), param_hint="--pools") from error
        pools: list[Pool] = []
        for number, name in enumerate(names):
            try:
                profile = load_profile(name.profile)
            except (OSError, ValueError) as error:
                raise click.BadParameter(str(error), param_hint="--pools") from error
            if pools and profile.model != pools[0].profile.model:
                raise click.BadParameter(
                    f"{names[0].profile} serves {pools[0].profile.model} and {name.profile} {profile.model}; a cluster "
                    "serves one model",
                    param_hint="--pools",
                )
            label = f"{name.role}-{number}" if len(names) > 1 else str(name.role)
            capabilities = capabilities_of(self.connector or Connector.NIXL, name.role)
            pools.append(Pool(label, name.count, name.role, profile, capabilities, self.max_running))
        if self.connector is not None and all(name.role is Role.MIXED for name in names):
            raise click.BadParameter(
                "mixed instances alone hand nothing over: give it with prefill and decode pools",
                param_hint="--connector",
            )
        return pools

    @cached_property
    def objective(self) -> Objective:
        if self.slo is not None:
            return objective_for(self.slo, None, "")
        first = next(pool for pool in self.pool_list if pool.role is not Role.DECODE)
        return ProfileObjective(first.profile, self.chunk)

    @cached_property
    def rules(self) -> Rules:
        """Raises click.BadParameter."""
        try:
            policy = make_policy(*_policy_of(self.policy))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--policy") from error
        try:
            order = make_order(*_policy_of(self.order))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--order") from error
        rules = ModelRules(policy=policy)
        # Named, so that requests wait as they do for a model that is configured while it has no instance.
        return Rules({MODEL: rules}, default=rules, order=order, max_waiting=1 << 30, max_wait_s=1e9)

    @cached_property
    def changes(self) -> list[InstanceChange]:
        """Raises click.BadParameter."""
        if self.events is None:
            return []
        try:
            return read_instance_events(self.events, self.pool_list)
        except TraceError as error:
            raise click.BadParameter(str(error), param_hint="--events") from error

    @property
    def replicas(self) -> int:
        """A delay needs somebody else to see late."""
        return self.routers or (2 if self.view_delay else 1)

    def workload(self) -> Workload:
        longest = max(pool.profile.longest_context_tokens for pool in self.pool_list)
        try:
            source = open_workload(self.trace, longest)
        except WorkloadNameError as error:
            raise click.BadParameter(str(error), param_hint="TRACE") from error
        if is_predictions(self.predictor):
            source = Predicted(source, Path(self.predictor))
        return Cut(RateScaled(source, self.rate_scale, self.seed), self.max_requests)

    def options(self) -> SimulationOptions:
        policy = self.rules.default.policy
        return SimulationOptions(
            pools=self.pool_list,
            rules=self.rules,
            objective=self.objective,
            engine=EngineOptions(chunk_tokens=self.chunk),
            seed=self.seed,
            routers=self.replicas,
            view_delay_s=self.view_delay,
            report_progress=getattr(policy, "reads_progress", True),
            changes=self.changes,
            explain=frozenset(self.explain),
        )

    @property
    def _predictor_shown(self) -> str | None:
        if self.predictor == "none":
            return None
        return Path(self.predictor).name if is_predictions(self.predictor) else self.predictor

    def facts(self) -> RunFacts:
        return RunFacts(
            trace=self.trace if is_described(self.trace) else Path(self.trace).name,
            policy=self.policy,
            predictor=self._predictor_shown,
            seed=self.seed,
            pools=self.pools,
            rate_scale=self.rate_scale,
            slo=self.objective.same_for_all,
            slo_rule=self.objective.rule,
        )


def capabilities_of(connector: str, role: Role) -> Capabilities:
    """As the live router has them: a pulling connector may choose the decode instance late; SGLang's decode instances cannot prefill."""
    return Capabilities(
        local_prefill=not (connector == Connector.SGLANG and role is Role.DECODE),
        late_decode=connector == Connector.NIXL,
    )


def _policy_of(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name:key=value,key=value`, values as numbers where they are some. Raises ValueError."""
    name, _, listed = text.partition(":")
    parameters: dict[str, Any] = {}
    for part in filter(None, listed.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not PARAMETER=VALUE, as in prefix_affinity:cache_threshold=0.5")
        parameters[key] = _number(value)
    return name, parameters


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True, slots=True)
class Ran:
    """A run and its report."""

    report: Report
    result: SimulationResult


def run_plan(
    plan: SimulationPlan,
    on_start: Callable[[Simulation, int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Ran:
    """One simulation. `on_start` gets it and the number of requests before it runs.

    Raises TraceError, click.BadParameter and OSError.
    """
    plan.check()
    start_s = time.perf_counter()
    workload = plan.workload()
    planned = count_requests(workload)
    try:
        predictor: Predictor = make_predictor(plan.predictor, workload, plan.seed)
    except PredictorError as error:
        raise click.BadParameter(str(error), param_hint="--predictor") from error
    if plan.explain and max(plan.explain) >= planned:
        raise click.BadParameter(
            f"{max(plan.explain)}: there are {planned} requests, counted from 0", param_hint="--explain"
        )
    simulation = Simulation(workload, planned, predictor, plan.options())
    if on_start is not None:
        on_start(simulation, planned)
    with few_collections():
        try:
            result = simulation.run(on_progress)
        except ArrivalTooLateError as error:
            raise click.BadParameter(f"{plan.trace}: {error}", param_hint="TRACE") from error
    wall_s = time.perf_counter() - start_s
    return Ran(report_of(plan, result, wall_s), result)


@contextmanager
def few_collections() -> Iterator[None]:
    """A simulation makes many small objects and no cycles of them: looking for cycles often costs a tenth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def report_of(plan: SimulationPlan, result: SimulationResult, wall_s: float) -> Report:
    recorder, counters = result.recorder, result.counters
    everything = recorder.whole()
    figures = everything if result.interrupted else recorder.measured
    queried = counters.prefix_queries
    marks = []
    if result.retries:
        marks.append(f"{result.retries} attempts were repeated on other instances")
    return make_report(
        figures,
        everything,
        plan.facts(),
        ClusterFigures(
            prefix_hit_rate=counters.prefix_hits / queried if queried else None,
            preemptions=counters.preemptions,
            migrations=0,
            instance_seconds=result.instance_seconds,
        ),
        RunCourse(
            wall_s=wall_s, interrupted=result.interrupted, marks=tuple(marks), errors=dict(recorder.errors)
        ),
        program_report(result.programs),
    )
