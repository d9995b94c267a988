"""Programs in the simulation: calls arrive when what they wait for has ended, and programs are measured whole."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pointsman.cli.simulate import command
from pointsman.core.decide import ModelRules, Rules
from pointsman.core.instances import Role
from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.core.placement.catalogue import make_policy
from pointsman.core.queueing.catalogue import make_order
from pointsman.core.slo import Slo
from pointsman.core.units import PS_PER_S
from pointsman.sim.objective import FixedObjective
from pointsman.sim.pools import Pool
from pointsman.sim.predictors import NoPredictor
from pointsman.sim.simulation.kernel import Simulation, SimulationResult
from pointsman.sim.simulation.lives import Life
from pointsman.sim.simulation.options import SimulationOptions
from pointsman.sim.simulation.programs import program_report
from pointsman.sim.workload.program import Call, Program
from pointsman.sim.workload.request import TraceRequest

# An iteration takes 10 ms, whatever it holds: a call of n output tokens takes n iterations.
PROFILE = EngineProfile(
    name="tick",
    model="m",
    engine="e",
    accelerator="a",
    accelerator_class=AcceleratorClass.A100,
    tensor_parallel=1,
    cost=IterationCost(t0_ps=10**10, tp_ps=0, ta_ps=0, tb_ps=0, tc_ps=0),
    kv_capacity_tokens=4096,
    kv_bytes_per_token=1000,
    transfer_bytes_per_s=1e12,
)


@dataclass(frozen=True)
class Lived:
    prompt_tokens: int
    arrived_s: float
    ended_s: float


def play(
    *programs: TraceRequest, order: str = "first_come", max_running: int = 0, max_wait_s: float = 1e9
) -> tuple[SimulationResult, list[Lived]]:
    """Prompts tell calls apart."""
    lives: list[Lived] = []

    def completed(life: Life, at_ps: int) -> None:
        lives.append(Lived(life.prompt_tokens, life.arrived_ps / PS_PER_S, at_ps / PS_PER_S))

    options = SimulationOptions(
        pools=[Pool("mixed", 1, Role.MIXED, PROFILE, max_running=max_running)],
        rules=Rules(
            default=ModelRules(make_policy("least_requests")),
            order=make_order(order),
            max_waiting=1 << 30,
            max_wait_s=max_wait_s,
        ),
        objective=FixedObjective(Slo()),
        on_completed=completed,
    )
    return Simulation(programs, 0, NoPredictor(), options).run(), lives


def program(
    *calls: Call, at_s: float = 0.0, deadline_s: float = float("inf"), name: str = "p"
) -> TraceRequest:
    first = calls[0]
    return TraceRequest(
        at_s,
        first.prompt_tokens,
        first.output_tokens,
        program_id=name,
        program=Program(calls, deadline_s),
    )


def test_a_call_arrives_when_the_last_of_those_it_waits_for_has_ended_and_its_tool_too() -> None:
    result, seen = play(
        program(
            Call(1, 10), Call(2, 10, (0,), 0.5), Call(3, 30, (0,)), Call(4, 5, (1, 2), 0.25), deadline_s=1.0
        )
    )
    assert seen == [
        Lived(1, 0.0, 0.1),
        Lived(3, 0.1, 0.4),
        Lived(2, 0.6, 0.7),
        Lived(4, 0.95, 1.0),
    ]
    report = program_report(result.programs)
    assert report is not None
    assert (report.programs, report.completed, report.failed, report.deadline_attainment) == (1, 1, 0, 1.0)
    assert report.response_s.max == 1.0
    assert report.per_token_s.max == pytest.approx(1.0 / 55, rel=1e-6)


def test_a_program_may_begin_with_several_calls() -> None:
    _, seen = play(program(Call(1, 10), Call(2, 20), Call(3, 1, (0, 1))))
    assert seen == [Lived(1, 0.0, 0.1), Lived(2, 0.0, 0.2), Lived(3, 0.2, 0.21)]


def test_a_program_fails_with_its_first_call_that_does_and_goes_no_further() -> None:
    result, seen = play(
        program(Call(1, 10), Call(5000, 10, (0,)), Call(3, 1, (1,)), deadline_s=100.0),
        program(Call(4, 10), at_s=0.5, name="q"),
    )
    assert [lived.prompt_tokens for lived in seen] == [1, 4]
    report = program_report(result.programs)
    assert report is not None
    assert (report.programs, report.completed, report.failed, report.deadline_attainment) == (2, 1, 1, 0.0)
    assert result.recorder.whole().requests == 3


def test_without_programs_nothing_is_said_of_them() -> None:
    result, _ = play(TraceRequest(0.0, 10, 10))
    assert program_report(result.programs) is None


def test_least_attained_lets_a_young_program_overtake_one_that_was_given_much() -> None:
    # One call runs at a time; three of the old program's wait when the young one comes.
    old = program(Call(100, 10), *(Call(101 + place, 10, (0,)) for place in range(3)))
    young = program(Call(50, 10), name="young", at_s=0.15)
    sequences = {
        order: [lived.prompt_tokens for lived in play(old, young, order=order, max_running=1)[1]]
        for order in ("first_come", "least_attained")
    }
    assert sequences == {
        "first_come": [100, 101, 102, 103, 50],
        "least_attained": [100, 101, 50, 102, 103],
    }


def test_least_slack_goes_by_the_stages_share_of_the_deadline() -> None:
    # Both wait for the first; what came later has little of its deadline for its first stage.
    blocker = TraceRequest(0.0, 1, 20)
    roomy = program(Call(2, 10, deadline_share=1.0), at_s=0.01, deadline_s=5.0, name="roomy")
    tight = program(
        Call(3, 10, deadline_share=0.1), Call(4, 10, (0,)), at_s=0.02, deadline_s=6.0, name="tight"
    )
    sequences = {
        order: [p.prompt_tokens for p in play(blocker, roomy, tight, order=order, max_running=1)[1]]
        for order in ("first_come", "least_slack")
    }
    assert sequences == {"first_come": [1, 2, 3, 4], "least_slack": [1, 3, 2, 4]}


def simulate(trace: str, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "report.json"
    options = ["--pools", "2xmixed:a100-llama3.1-8b", "--policy", "least_tokens", "--json", str(file)]
    result = CliRunner().invoke(command, [trace, *options, *arguments])
    assert result.exit_code == 0, result.output
    assert ("\nprograms " in result.output) == ("programs" in json.loads(file.read_text()))
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


@pytest.mark.parametrize("kind", ["agents-sharegpt", "agents-lats", "workflow-text2sql"])
def test_the_command_reports_programs_and_the_same_twice(kind: str, tmp_path: Path) -> None:
    trace = f"gen:{kind}?programs=12&rate=2&seed=1&tool=0.3"
    first, second = (simulate(trace, tmp_path, "--rate-scale", "6") for _ in range(2))
    for name in ("wall_s", "simulated_requests_per_s"):
        first.pop(name), second.pop(name)
    assert first == second
    assert (
        first["programs"]["completed"] == first["programs"]["programs"] == 22
    )  # two copies, less the warm-up
    assert first["programs"]["response_s"]["p50"] > first["e2e_s"]["p50"]
    assert (first["programs"]["deadline_attainment"] is None) == (kind != "workflow-text2sql")
    assert first["trace"] == trace


def test_a_trace_has_no_programs_in_its_report(tmp_path: Path) -> None:
    assert "programs" not in simulate("gen:azure-conv?requests=50", tmp_path)
