"""A fake API server and a client of it."""

from collections.abc import AsyncIterator

import pytest
import trustme

from fakekube.server import FakeKube, fake_kube
from pointsman.kube.access import Access
from pointsman.kube.client import ApiClient


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with fake_kube() as server:
        yield server


@pytest.fixture
async def client(fake: FakeKube) -> AsyncIterator[ApiClient]:
    async with ApiClient(Access(fake.url)) as made:
        yield made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()
