"""Two real engines for the whole run; everything here is skipped, with the reason, where they cannot be had."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from contract.answers import Asker
from contract.case import Engines
from realengine.engine import LEASE_SECONDS, EngineSpec, RealEngine, running
from realengine.environment import Environment, UnavailableError, ensure

SMALL_KV = ("--num-gpu-blocks-override", "97")


@pytest.fixture(scope="session")
def environment() -> Environment:
    try:
        return ensure()
    except UnavailableError as reason:
        pytest.skip(f"no real vLLM here: {reason}")


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where engines leave their logs; short, for it holds Unix sockets too."""
    told = os.environ.get("POINTSMAN_ARTEFACTS")
    folder = Path(told) if told else Path(tempfile.mkdtemp(prefix="pointsman-vllm-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def real_pair(environment: Environment, artefacts: Path) -> Iterator[list[RealEngine]]:
    """One with room for 512 contexts, one for one and a half, so that it preempts."""
    with running((EngineSpec("one"), EngineSpec("other", extra=SMALL_KV)), environment, artefacts) as engines:
        yield engines


@pytest.fixture
async def engines(real_pair: list[RealEngine]) -> AsyncIterator[Engines]:
    async with AsyncExitStack() as stack:
        one, other = [
            Asker(await stack.enter_async_context(httpx.AsyncClient(base_url=engine.url, timeout=60)))
            for engine in real_pair
        ]
        yield Engines(one, other, real_pair[0].kv_events, LEASE_SECONDS)
