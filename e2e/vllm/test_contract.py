"""Real vLLM still does what was recorded of it."""

import pytest

from contract.case import Case, Engines, observe
from contract.suite import ALL, name_of, recorded


@pytest.mark.parametrize("named", ALL, ids=name_of)
async def test_vllm_does_what_was_recorded(named: tuple[str, Case], engines: Engines) -> None:
    group, case = named
    assert await observe(case, engines) == recorded(group)[case.name]
