"""One simulation of pools that an experiment puts together itself, and what it keeps of each request."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pointsman.cli.simulation import few_collections
from pointsman.core.decide import ModelRules, Rules
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.queueing.catalogue import make_order
from pointsman.core.slo import Slo
from pointsman.sim.engine import EngineOptions
from pointsman.sim.objective import FixedObjective
from pointsman.sim.pools import Pool
from pointsman.sim.predictors import NoPredictor, Predictor
from pointsman.sim.report import WARM_UP_SHARE
from pointsman.sim.simulation.kernel import Simulation, SimulationResult
from pointsman.sim.simulation.lives import Life
from pointsman.sim.simulation.options import SimulationOptions
from pointsman.sim.workload.request import TraceRequest


@dataclass(frozen=True, slots=True)
class Served:
    """A request that completed; times in picoseconds since its arrival."""

    prompt_tokens: int
    output_tokens: int
    ttft_ps: int
    e2e_ps: int
    predicted_tokens: int

    @property
    def tpot_ps(self) -> float:
        """Mean time per token after the first; 0 for an answer of one token."""
        return (self.e2e_ps - self.ttft_ps) / max(1, self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Setup:
    """What serves, and how it decides."""

    pools: Sequence[Pool]
    engine: EngineOptions
    policy: str = "least_tokens"
    order: str = "first_come"
    starvation_s: float | None = None
    predictor: Predictor = field(default_factory=NoPredictor)
    prefill_answers: bool = True
    local_prefill_tokens: int = 0
    """Prompts up to so many tokens stay away from the prefill instances."""


@dataclass(frozen=True, slots=True)
class Course:
    """How it went, warm-up left out of `served`."""

    offered: int
    """Requests after the warm-up."""
    served: list[Served]
    result: SimulationResult


def play(
    setup: Setup, requests: Sequence[TraceRequest], seed: int, warm_up_share: float = WARM_UP_SHARE
) -> Course:
    warm_up = int(len(requests) * warm_up_share)
    served: list[Served] = []

    def completed(life: Life, now_ps: int) -> None:
        if life.index >= warm_up:
            arrived_ps = life.arrived_ps
            ttft_ps, e2e_ps = life.first_token_ps - arrived_ps, now_ps - arrived_ps
            predicted = life.view.expected_output_tokens
            served.append(Served(life.prompt_tokens, life.output_tokens, ttft_ps, e2e_ps, predicted))

    limits = {} if setup.starvation_s is None else {"starvation_s": setup.starvation_s}
    policy = make_policy(setup.policy, {})
    rules = Rules(
        default=ModelRules(policy=policy, local_prefill_tokens=setup.local_prefill_tokens),
        order=make_order(setup.order, limits),
        max_waiting=1 << 30,
        max_wait_s=1e9,
    )
    options = SimulationOptions(
        pools=setup.pools,
        rules=rules,
        objective=FixedObjective(Slo()),
        engine=setup.engine,
        seed=seed,
        report_progress=getattr(policy, "reads_progress", True),
        prefill_answers=setup.prefill_answers,
        on_completed=completed,
    )
    with few_collections():
        result = Simulation(requests, len(requests), setup.predictor, options).run()
    return Course(len(requests) - warm_up, served, result)
