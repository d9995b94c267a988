"""A fake API server for whole operators."""

from collections.abc import AsyncIterator

import pytest

from fakekube.server import FakeKube, fake_kube


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with fake_kube() as server:
        yield server
