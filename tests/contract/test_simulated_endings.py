"""The simulated engine ends as vLLM did when it was recorded, but for the differences that are listed."""

from pathlib import Path

import pytest

from contract.differences import DIFFERENCES
from contract.endings import ENDINGS, GRACE_S, stopped_behind
from contract.simulated import doomed
from contract.suite import recorded
from realengine.router import Backend, routing


@pytest.mark.parametrize("name", ENDINGS)
async def test_simulated_engine_ends_as_vllm_did(name: str, tmp_path: Path) -> None:
    ending = ENDINGS[name]
    with doomed(tmp_path, name, grace_s=GRACE_S if ending.graceful else 0) as engine:
        observed = await ending.scenario(engine)
    assert observed.keys() >= {case for case in recorded("endings") if case.startswith(f"{name}:")}
    for case, observation in observed.items():
        if reason := DIFFERENCES.get(("endings", case)):
            assert observation != recorded("endings")[case], (
                f"no difference any more, take it off the list: {reason}"
            )
        else:
            assert observation == recorded("endings")[case], case


async def test_a_stopped_engine_is_a_failure_through_the_router(tmp_path: Path) -> None:
    """Its error event and [DONE] are an error event and no [DONE]."""
    with doomed(tmp_path, "stopped", grace_s=0) as engine, routing([Backend(engine.url)], tmp_path) as router:
        found = await stopped_behind(router.url, engine)
    assert found == {"looks like a success": False, "tells": True}
