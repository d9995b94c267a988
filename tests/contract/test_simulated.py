"""The simulated engine does what vLLM did when it was recorded, but for the differences that are listed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from contract.answers import Asker
from contract.case import Case, Engines, observe
from contract.differences import DIFFERENCES
from contract.simulated import LEASE_S, SimulatedEngine, pair
from contract.suite import ALL, name_of, recorded


@pytest.fixture(scope="session")
def simulated_pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SimulatedEngine, SimulatedEngine]]:
    with pair(tmp_path_factory.mktemp("engines")) as engines:
        yield engines


@pytest.fixture
async def engines(simulated_pair: tuple[SimulatedEngine, SimulatedEngine]) -> AsyncIterator[Engines]:
    async with AsyncExitStack() as stack:
        one, other = [
            Asker(await stack.enter_async_context(httpx.AsyncClient(base_url=engine.url, timeout=30)))
            for engine in simulated_pair
        ]
        yield Engines(one, other, simulated_pair[0].kv_events, LEASE_S)


@pytest.mark.parametrize("named", ALL, ids=name_of)
async def test_simulated_engine_does_what_vllm_did(named: tuple[str, Case], engines: Engines) -> None:
    group, case = named
    observed = await observe(case, engines)
    if reason := DIFFERENCES.get((group, case.name)):
        assert observed != recorded(group)[case.name], (
            f"no difference any more, take it off the list: {reason}"
        )
    else:
        assert observed == recorded(group)[case.name]


def test_every_listed_difference_is_of_a_case() -> None:
    endings = {("endings", case) for case in recorded("endings")}
    assert DIFFERENCES.keys() <= {(group, case.name) for group, case in ALL} | endings
