"""What the experiments that repeat a paper's take for equal cost, for a slowdown of one, and for a placement."""

import pytest
from decisions.cluster_run import Setup, play
from decisions.distserve import GPUS, placements
from decisions.ranking import cases
from decisions.splitwise import WHOLE_PROMPTS, slowdowns, within_limits
from decisions.splitwise_machines import BUDGETS, SYSTEMS, CostModel, pools_of, reference_cost
from decisions.splitwise_table import binding

from pointsman.sim.engine import EngineOptions
from pointsman.sim.workload.request import TraceRequest

BY_NAME = {system.name: system for system in SYSTEMS}


@pytest.mark.parametrize(
    ("budget", "name", "most_machines"),
    [
        ("cost", "Baseline-A100", 86),
        ("cost", "Baseline-H100", 40),
        ("cost", "Splitwise-AA", 86),
        ("cost", "Splitwise-HA", 85),
        ("power", "Baseline-A100", 70),
        ("power", "Splitwise-AA", 70),
    ],
)
def test_clusters_spend_the_budget_and_no_more(budget: str, name: str, most_machines: int) -> None:
    clusters = BY_NAME[name].clusters(budget)
    assert max(cluster.prompt + cluster.token for cluster in clusters) == most_machines
    for cluster in clusters:
        assert 0.98 * BUDGETS[budget] < getattr(cluster, budget) <= BUDGETS[budget]
        assert cluster.token > 0


@pytest.mark.parametrize("cost_model", CostModel)
def test_a_request_alone_on_an_a100_is_slowed_by_nothing(cost_model: CostModel) -> None:
    system = BY_NAME["Baseline-A100"]
    pools = pools_of(system, system.clusters("cost")[0], cost_model)
    setup = Setup(pools, EngineOptions(chunk_tokens=WHOLE_PROMPTS, prefix_caching=False))
    requests = [TraceRequest(100.0 * number, 700 * number + 3, 40 * number + 1) for number in range(10)]
    found = slowdowns(play(setup, requests, 1), reference_cost(cost_model))
    assert found == {name: [1.0, 1.0, 1.0] for name in ("ttft", "tbt", "e2e")}
    assert within_limits(found)


@pytest.mark.parametrize(("name", "at"), [("ttft", 0), ("tbt", 1), ("e2e", 2)])
def test_one_broken_limit_of_the_nine_is_enough(name: str, at: int) -> None:
    found = {limited: [1.0, 1.2, 1.4] for limited in ("ttft", "tbt", "e2e")}
    assert within_limits(found)
    found[name][at] = 6.0
    assert not within_limits(found)


def test_the_limit_that_is_met_first_is_the_one_with_the_largest_share_used() -> None:
    found = {"ttft": [1.0, 1.0, 5.5], "tbt": [1.2, 1.2, 1.2], "e2e": [1.0, 1.0, 1.0]}
    assert binding(found) == "TBT p50"
    found["ttft"][2] = 5.9
    assert binding(found) == "TTFT p99"


def test_placements_use_up_to_four_gpus_each_once() -> None:
    found = [str(placement) for placement in placements()]
    assert len(found) == len(set(found))
    assert "1 x 2 GPUs prefill, 1 x 1 GPU decode" in found
    assert {placement.gpus for placement in placements()} <= set(range(1, GPUS + 1))


def test_every_rate_has_first_come_and_all_predictions() -> None:
    of_rate = [case for case in cases() if case.rate == 64.0]
    assert [case.tau for case in of_rate] == [0.0, 0.24, 0.54, 0.62, 0.74, 1.0, 0.54, 1.0]
