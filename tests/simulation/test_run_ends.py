"""Whose run ends first, against a look at all of them."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.profile import load_profile
from pointsman.core.instances import Role
from pointsman.sim.engine import EngineOptions
from pointsman.sim.pools import Pool
from pointsman.sim.simulation.node import Node
from pointsman.sim.simulation.run_ends import RunEnds
from pointsman.sim.simulation.timeline import NO_MORE

PROFILE = "h100-llama3.1-8b"
TIMES = st.one_of(st.integers(0, 4), st.just(NO_MORE))
"""Few, so that many are equal."""


@given(st.data(), st.integers(1, 11))
def test_the_first_is_the_least_of_all_and_of_equals_the_one_with_the_lowest_number(
    data: st.DataObject, count: int
) -> None:
    nodes = nodes_of(count)
    ends = RunEnds(nodes)
    assert ends.first() is nodes[0], "where no run is under way"
    for number, end_ps in data.draw(st.lists(st.tuples(st.integers(0, count - 1), TIMES), max_size=30)):
        nodes[number].run_end_ps = end_ps
        ends.moved(nodes[number])
        assert ends.first() is min(nodes, key=lambda node: (node.run_end_ps, node.number))


def nodes_of(count: int) -> list[Node]:
    pool = Pool(PROFILE, count, Role.MIXED, load_profile(PROFILE))
    return [Node(number, f"{PROFILE}/{number}", pool, EngineOptions()) for number in range(count)]
