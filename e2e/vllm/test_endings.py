"""Real vLLM still ends as was recorded of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.endings import ENDINGS, stopped_behind
from contract.suite import recorded
from realengine.endings import doomed, specs
from realengine.engine import EngineSpec, RealEngine, running
from realengine.environment import Environment
from realengine.router import Backend, routing

BEHIND = "behind-the-router"


@pytest.fixture(scope="module")
def ended(environment: Environment, artefacts: Path) -> Iterator[dict[str, RealEngine]]:
    with running([*specs(), EngineSpec(BEHIND)], environment, artefacts) as engines:
        yield {engine.spec.name: engine for engine in engines}


@pytest.mark.parametrize("name", ENDINGS)
async def test_vllm_ends_as_was_recorded(name: str, ended: dict[str, RealEngine]) -> None:
    observed = await ENDINGS[name].scenario(doomed(ended[name]))
    assert observed == {case: recorded("endings")[case] for case in observed}


async def test_a_stopped_engine_is_a_failure_through_the_router(
    ended: dict[str, RealEngine], artefacts: Path
) -> None:
    engine = doomed(ended[BEHIND])
    with routing([Backend(engine.url)], artefacts) as router:
        found = await stopped_behind(router.url, engine)
    assert found == {"looks like a success": False, "tells": True}
