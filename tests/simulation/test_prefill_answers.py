"""Who gives the first token of an answer: the prefill instance, or the decode instance once it has the KV."""

import pytest

from pointsman.core.decide import ModelRules, Rules
from pointsman.core.instances import Role
from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.core.slo import Slo
from pointsman.core.units import PS_PER_S
from pointsman.sim.objective import FixedObjective
from pointsman.sim.pools import Pool
from pointsman.sim.predictors import NoPredictor
from pointsman.sim.simulation.kernel import Simulation, SimulationResult
from pointsman.sim.simulation.lives import Life
from pointsman.sim.simulation.options import SimulationOptions
from pointsman.sim.workload.request import TraceRequest

MS = PS_PER_S // 1000
PROFILE = EngineProfile(
    name="small",
    model="m",
    engine="e",
    accelerator="a",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(t0_ps=0, tp_ps=MS, ta_ps=0, tb_ps=10 * MS, tc_ps=0),
    kv_capacity_tokens=4096,
    kv_bytes_per_token=1_000_000,
    transfer_bytes_per_s=2e9,
)
"""A prompt token takes 1 ms, a token of the answer 10 ms, and KV of a token moves in half a millisecond."""


def run(output_tokens: int, *, prefill_answers: bool) -> tuple[SimulationResult, list[tuple[int, int]]]:
    heard: list[tuple[int, int]] = []

    def completed(life: Life, now_ps: int) -> None:
        heard.append((life.first_token_ps // MS, now_ps // MS))

    options = SimulationOptions(
        pools=[Pool(str(role), 1, role, PROFILE) for role in (Role.PREFILL, Role.DECODE)],
        rules=Rules(default=ModelRules(local_prefill_tokens=0)),
        objective=FixedObjective(Slo(ttft_s=1.0, tpot_s=0.1)),
        prefill_answers=prefill_answers,
        on_completed=completed,
    )
    requests = [TraceRequest(0.0, 100, output_tokens)]
    return Simulation(requests, 1, NoPredictor(), options).run(), heard


@pytest.mark.parametrize(
    ("output_tokens", "answers_first", "first_ms", "last_ms"),
    [
        pytest.param(5, Role.DECODE, 100 + 50 + 10, 100 + 50 + 5 * 10, id="the decode instance begins"),
        pytest.param(5, Role.PREFILL, 100, 100 + 50 + 4 * 10, id="it goes on with the second token"),
        pytest.param(1, Role.PREFILL, 100, 100, id="an answer of one token needs no decode instance"),
    ],
)
def test_the_first_token_comes_from_whoever_is_to_give_it(
    output_tokens: int, answers_first: Role, first_ms: int, last_ms: int
) -> None:
    result, heard = run(output_tokens, prefill_answers=answers_first is Role.PREFILL)
    assert heard == [(first_ms, last_ms)]
    figures = result.recorder.whole()
    assert figures.ttft.max_ps == first_ms * MS
    assert figures.e2e.max_ps == last_ms * MS
    assert figures.gaps.count == output_tokens - 1
    assert figures.gaps.sum_ps == (last_ms - first_ms) * MS
