"""The machines of the Splitwise experiment, what they cost, and all ways to spend a budget on two kinds of them.

Figures of Mutinifni/splitwise-sim@8f99e7dc9b40 (MIT), notebooks/utils.py and configs/: cost per hour and power of a
machine, budgets in DGX-H100, the 200 GiB/s between machines.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from pointsman.api.profile import load_profile
from pointsman.core.instances import Role
from pointsman.core.perf import EngineProfile, IterationCost
from pointsman.sim.pools import Pool

TRANSFER_BYTES_PER_S = 200.0 * 2**30


class CostModel(StrEnum):
    """How long a decode iteration takes."""

    FITTED = "fitted"
    """As measured: more with each sequence and with its context."""
    FLAT_DECODE = "flat decode"
    """As splitwise-sim reads its table: its key is the number of prompt tokens, which it asks for with the number of
    sequences, so that an iteration of up to 128 sequences takes what one takes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of eight GPUs."""

    profile: str
    cost: float
    """Dollars per hour of one GPU."""
    power: float
    """In units of the source: proportional to the node's rated power."""


A100 = Machine("a100-llama2-70b-tp8", 2.21, 24.8)
H100 = Machine("h100-llama2-70b-tp8", 4.76, 44.0)
H100_WORTH = 40
"""Machines whose cost, or power, is the budget, as the source has it."""
BUDGETS = {"cost": H100_WORTH * H100.cost, "power": H100_WORTH * H100.power}


@dataclass(frozen=True, slots=True)
class Cluster:
    """How many machines; none for prompts: all do both."""

    prompt: int
    token: int
    cost: float
    power: float


@dataclass(frozen=True, slots=True)
class System:
    """A kind of cluster; without `prompt`, prompts and answers share machines."""

    name: str
    prompt: Machine | None
    token: Machine

    def clusters(self, budget: str) -> list[Cluster]:
        """All of them that spend the budget, from fewest prompt machines to most."""
        left = BUDGETS[budget]
        token_price = getattr(self.token, budget)
        if self.prompt is None:
            return [self._cluster(0, int(left / token_price + 1e-9))]
        prompt_price = getattr(self.prompt, budget)
        return [
            self._cluster(prompts, int((left - prompts * prompt_price) / token_price + 1e-9))
            for prompts in range(1, int((left - token_price) / prompt_price + 1e-9) + 1)
        ]

    def _cluster(self, prompts: int, tokens: int) -> Cluster:
        first = self.prompt or self.token
        return Cluster(
            prompts,
            tokens,
            prompts * first.cost + tokens * self.token.cost,
            prompts * first.power + tokens * self.token.power,
        )


SYSTEMS = (
    System("Baseline-A100", None, A100),
    System("Baseline-H100", None, H100),
    System("Splitwise-AA", A100, A100),
    System("Splitwise-HH", H100, H100),
    System("Splitwise-HA", H100, A100),
)
"""HA: prompts on H100, answers on A100."""


def pools_of(system: System, cluster: Cluster, cost_model: CostModel) -> list[Pool]:
    token = _profile(system.token, cost_model)
    if system.prompt is None:
        return [Pool("mixed", cluster.token, Role.MIXED, token)]
    prompt = _profile(system.prompt, cost_model)
    return [
        Pool("prompt", cluster.prompt, Role.PREFILL, prompt),
        Pool("token", cluster.token, Role.DECODE, token),
    ]


def reference_cost(cost_model: CostModel) -> IterationCost:
    """Of the A100 that slowdowns are against."""
    return _profile(A100, cost_model).cost


@cache
def _profile(machine: Machine, cost_model: CostModel) -> EngineProfile:
    profile = load_profile(machine.profile)
    cost = profile.cost
    if cost_model is CostModel.FLAT_DECODE:
        cost = replace(cost, tb_ps=0, tc_ps=0, decode_hinges=(), token_slopes=())
    return replace(profile, cost=cost, transfer_bytes_per_s=TRANSFER_BYTES_PER_S)
