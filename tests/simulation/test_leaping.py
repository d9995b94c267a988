"""Leaping over iterations gives what stepping through each of them gives, whatever befalls the cluster."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.decide import ModelRules, Rules
from pointsman.core.instances import Role
from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.slo import Slo
from pointsman.sim.engine import EngineOptions
from pointsman.sim.objective import FixedObjective
from pointsman.sim.pools import Pool
from pointsman.sim.predictors import NoPredictor
from pointsman.sim.simulation.kernel import Simulation, SimulationResult
from pointsman.sim.simulation.options import Happening, InstanceChange, SimulationOptions
from pointsman.sim.simulation.quantiles import PsHistogram
from pointsman.sim.workload.program import Call, Program
from pointsman.sim.workload.request import TraceRequest

MS = 1_000_000_000
PROFILE = EngineProfile(
    name="small",
    model="m",
    engine="e",
    accelerator="a",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(t0_ps=20 * MS, tp_ps=MS // 20, ta_ps=7, tb_ps=MS // 7, tc_ps=MS // 3001),
    kv_capacity_tokens=4096,
    kv_bytes_per_token=800_000,
    transfer_bytes_per_s=8e9,
)
CLUSTERS = (
    ((3, Role.MIXED),),
    ((2, Role.PREFILL), (2, Role.DECODE)),
    ((1, Role.PREFILL), (1, Role.DECODE), (1, Role.MIXED)),
)
POLICIES = ("round_robin", "least_requests", "least_tokens", "prefix_affinity", "power_of_two")


@st.composite
def workloads(draw: st.DrawFn) -> list[TraceRequest]:
    at_s, requests = 0.0, []
    for _ in range(draw(st.integers(1, 25))):
        at_s += draw(st.sampled_from((0.0, 0.0, 0.013, 0.1, 0.7, 3.0)))
        prompt = draw(st.integers(1, 1900))
        ids = tuple(draw(st.lists(st.integers(0, 4), max_size=prompt // 512 + 1, unique=True)))
        requests.append(
            TraceRequest(
                at_s,
                prompt,
                draw(st.integers(1, 400)),
                ids[: -(-prompt // 512)],
                priority=draw(st.integers(0, 1)),
                program=draw(st.none() | programs()),
            )
        )
    return requests


@st.composite
def programs(draw: st.DrawFn) -> Program:
    calls = [Call(draw(st.integers(1, 900)), draw(st.integers(1, 90)))]
    for place in range(1, draw(st.integers(1, 6))):
        after = tuple(sorted(draw(st.sets(st.integers(0, place - 1), max_size=3))))
        tool_s = draw(st.sampled_from((0.0, 0.02, 0.5)))
        calls.append(Call(draw(st.integers(1, 900)), draw(st.integers(1, 90)), after, tool_s))
    return Program(tuple(calls), deadline_s=3.0)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Any]:
    roles = draw(st.sampled_from(CLUSTERS))
    pools = [
        Pool(f"{role}", count, role, PROFILE, max_running=draw(st.sampled_from((0, 0, 4))))
        for count, role in roles
    ]
    victim = f"{pools[0].name}/1"
    changes = []
    if draw(st.booleans()):
        changes = [
            InstanceChange(
                draw(st.floats(0.1, 8)), victim, draw(st.sampled_from((Happening.LOST, Happening.DRAINED)))
            ),
            InstanceChange(
                draw(st.floats(8, 16)), victim, Happening.STARTED, draw(st.sampled_from((0.0, 3.0)))
            ),
        ]
    return {
        "pools": pools,
        "rules": Rules(
            default=ModelRules(policy=make_policy(draw(st.sampled_from(POLICIES))), local_prefill_tokens=64)
        ),
        "objective": FixedObjective(Slo(ttft_s=1.0, tpot_s=0.05)),
        "engine": EngineOptions(
            chunk_tokens=draw(st.sampled_from((64, 512, 2048))), max_sequences=draw(st.sampled_from((3, 64)))
        ),
        "routers": draw(st.integers(1, 3)),
        "view_delay_s": draw(st.sampled_from((0.0, 0.25))),
        "changes": changes,
        "prefill_answers": draw(st.booleans()),
    }


def outcome(result: SimulationResult) -> object:
    figures = result.recorder.whole()
    programs = result.programs.figures
    histograms: list[PsHistogram] = [figures.ttft, figures.tpot, figures.e2e]
    return (
        figures.outcomes,
        figures.good,
        figures.last_end_ps,
        [(h.counts.tolist(), h.sum_ps, h.max_ps) for h in histograms],
        (figures.gaps.count, figures.gaps.sum_ps, figures.gaps.max_ps),
        dict(result.recorder.errors),
        result.counters,
        result.retries,
        result.instance_seconds,
        (programs.completed, programs.failed, programs.in_time, list(programs.response_s)),
    )


@settings(max_examples=40, deadline=None)
@given(workloads(), clusters())
def test_leaping_and_stepping_agree(requests: list[TraceRequest], cluster: dict[str, Any]) -> None:
    results = [
        Simulation(
            requests, len(requests), NoPredictor(), SimulationOptions(**cluster, stepwise=stepwise)
        ).run()
        for stepwise in (False, True)
    ]
    assert outcome(results[0]) == outcome(results[1])
    offered = results[0].recorder.whole().requests
    assert len(requests) <= offered <= sum(request.calls for request in requests)
    if not results[0].programs.figures.failed:
        assert offered == sum(request.calls for request in requests)
